"""Random numbers as a function of ticker, minute and purpose, independent of the order of calls."""

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
    """Hash words to a 64-bit number, the same in every process."""
    text = "\x1f".join(map(str, words)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def bits(key: int, index: NDArray[np.int64]) -> Bits:
    """Return 64 random bits for every element of `index`, in its shape. `key` comes from `seed`."""
    z = index.astype(np.uint64)
    z += np.uint64(1)
    z *= _GAMMA  # wraps around, as the algorithm requires
    z += np.uint64(key)
    z ^= z >> np.uint64(30)
    z *= _MIX_1
    z ^= z >> np.uint64(27)
    z *= _MIX_2
    z ^= z >> np.uint64(31)
    return z


def uniforms(random: Bits) -> tuple[Float, Float, Float, Float]:
    """Four independent numbers in [0, 1), in steps of 1/65536, from every 64 bits."""
    mask = np.uint64(0xFFFF)
    parts = (((random >> np.uint64(shift)) & mask).astype(np.float64) / 65536.0 for shift in (0, 16, 32, 48))
    a, b, c, d = parts
    return a, b, c, d


def normals(random: Bits) -> Float:
    """One number of mean 0 and variance 1 from every 64 bits, within ±3.5: the sum of four uniforms."""
    a, b, c, d = uniforms(random)
    return np.asarray((a + b + c + d - 2.0) * np.sqrt(3.0), dtype=np.float64)
