"""The comparison with a witness: what is found among made-up pairs of series, and how often it cries for nothing."""

from datetime import date, timedelta

import numpy as np
import pytest

from backfill_assets.domain.witness import FIELDS, disagreements

PAIRS, SESSIONS = 10_000, 250
DAYS = [date(2023, 1, 2) + timedelta(n) for n in range(SESSIONS)]
HIGH, LOW, CLOSE = range(3)


def walk(rng, sessions=SESSIONS):
    """Return highs, lows and closes of a symbol, to the cent: float64 (n, 3)."""
    close = rng.uniform(5, 500) * np.exp(np.cumsum(rng.normal(0, rng.uniform(0.005, 0.04), sessions)))
    spread = np.abs(rng.normal(0, 0.02, (2, sessions)))
    return np.round(np.stack([close * (1 + spread[0]), close * (1 - spread[1]), close], axis=1), 2)


def seen(rng, prices):
    """Return the same days as another vendor counts them: in some sessions other highs and lows, and hardly other closes."""
    noise = rng.normal(0, rng.uniform(0, 0.002), prices.shape) * (rng.random(prices.shape) < rng.uniform(0, 0.5))
    noise[:, CLOSE] /= 10
    return np.round(prices * (1 + noise), 2)


def found(stored, witness):
    return {(d.session, d.field) for d in disagreements("X", DAYS[: len(stored)], stored, witness)}


def test_ten_thousand_pairs_agree_but_for_what_was_planted():
    rng = np.random.default_rng(26)
    false, planted, noticed = 0, 0, 0
    for _ in range(PAIRS):
        stored = walk(rng)
        witness = seen(rng, stored)
        row, column = int(rng.integers(SESSIONS)), int(rng.integers(3))
        wrong = rng.random() < 0.5
        if wrong:
            witness[row, column] *= rng.choice([0.5, 0.9, 0.97, 1.03, 1.1, 2, 100])
        disagreeing = found(stored, witness)
        key = (DAYS[row], FIELDS[column])
        planted += wrong
        noticed += wrong and key in disagreeing
        false += len(disagreeing - ({key} if wrong else set()))
    assert planted > PAIRS * 0.45
    assert noticed == planted
    assert false / (PAIRS * SESSIONS * 3) < 2e-4


@pytest.mark.parametrize("factor", [4, 0.2, 0.98, 1.0205])
def test_another_company_or_a_split_that_is_missing_is_never_usual(factor):
    stored = walk(np.random.default_rng(7))
    assert {field for _, field in found(stored, stored * factor)} == set(FIELDS)


def test_few_sessions_are_compared_with_the_widest_band():
    stored = walk(np.random.default_rng(7), sessions=5)
    assert found(stored, stored * 1.019) == set()
    assert len(found(stored, stored * 1.03)) == 15
    assert found(stored[:0], stored[:0]) == set()
