"""`backfill demo`: what the simulator shows of it stays the same on later days."""

from datetime import UTC, datetime, timedelta

import pytest

from backfill_assets.cli import demo
from backfill_assets.domain.universe_file import parse_universe

CREATED = datetime(2026, 1, 1, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize("days", range(0, 400, 7))
def test_whenever_it_is_created_everything_lies_on_finished_sessions(days):
    created = CREATED + timedelta(days=days)
    sessions, scenario = demo._sessions(created), demo._scenario(created)
    gap, thin = scenario.holes
    shown = [gap.first, gap.last, thin.first, scenario.splits[0].execution_date, scenario.dividends[0].ex_dividend_date]
    shown.append(scenario.renames[0].day)
    assert shown == sorted(set(shown))
    assert set(shown) <= set(sessions)
    assert shown[-1] < created.date() - timedelta(days=7), "the first part of the demo has all of it"
    assert gap.heal_at == created + timedelta(minutes=3)


def test_the_universe_file_keeps_the_instant_when_it_was_created(tmp_path):
    path = demo._universe(tmp_path / ".demo")
    written = path.read_text(encoding="utf-8")
    assert abs(demo._created(path) - datetime.now(UTC)) < timedelta(minutes=1)
    assert demo._universe(tmp_path / ".demo").read_text(encoding="utf-8") == written
    universe = parse_universe(written, str(path), datetime.now(UTC).date())
    earlier = universe.market("stocks").symbol("META").formerly[0]
    rename = demo._scenario(demo._created(path)).renames[0]
    assert (earlier.ticker, earlier.until < rename.day) == (rename.earlier, True)
