"""Counts of requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(slots=True)
class Traffic:
    """Counts since the start: requests sent, how many of them were retries, and rate-limited responses."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0

    def copy(self) -> Traffic:
        """Return a snapshot."""
        return replace(self)

    def __iadd__(self, other: Traffic) -> Self:
        self.requests += other.requests
        self.retries += other.retries
        self.rate_limited += other.rate_limited
        return self

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.requests - other.requests, self.retries - other.retries, self.rate_limited - other.rate_limited
        )
