"""The splits and dividends of the demo stay the same from one day to the next."""

from datetime import date, timedelta

from backfill_assets.cli.demo import DAYS, _scenario


def test_every_30_days_have_a_dividend_and_a_split_and_no_day_moves_them():
    today, seen = date(2026, 1, 1), set()
    for _ in range(400):
        listed = _scenario(today)
        dividends = {d.ex_dividend_date for d in listed.dividends}
        splits = {s.execution_date for s in listed.splits}
        since = today - timedelta(days=DAYS)
        assert len(dividends) == 12
        assert any(day >= since for day in dividends)
        assert any(day >= since for day in splits)
        assert {day for day in seen if min(dividends) <= day} <= dividends, "none is withdrawn"
        seen |= dividends
        today += timedelta(days=1)
