"""Random numbers that are a function of what they stand for: same ticker, minute and purpose, same number, in any order."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bits = NDArray[np.uint64]

# splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), and the reference C by S. Vigna.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def seed(*words: object) -> int:
    """A 64-bit number that belongs to these words, the same in every process."""
    text = "\x1f".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def bits(key: int, index: NDArray[np.int64]) -> Bits:
    """64 random bits for every element of `index`, shaped like it; `key` comes from `seed`."""
    z = index.astype(np.uint64)
    z += np.uint64(1)
    z *= _GAMMA  # arrays wrap around silently, which is what the algorithm asks for
    z += np.uint64(key)
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


def uniforms(random: Bits) -> tuple[Float, Float, Float, Float]:
    """Four independent numbers in [0, 1), in steps of 1/65536, out of every 64 bits."""
    mask = np.uint64(0xFFFF)
    parts = (((random >> np.uint64(shift)) & mask).astype(np.float64) / 65536.0 for shift in (0, 16, 32, 48))
    a, b, c, d = parts
    return a, b, c, d


def normals(random: Bits) -> Float:
    """One number of mean 0 and variance 1 out of every 64 bits, never beyond ±3.5: four uniforms added up."""
    a, b, c, d = uniforms(random)
    return np.asarray((a + b + c + d - 2.0) * np.sqrt(3.0), dtype=np.float64)
