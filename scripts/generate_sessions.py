"""Write the table of backfill_assets/domain/new_york.py from exchange_calendars, whose rules it contains as data.

Run it after an upgrade of that library. A test compares the committed table with the generated one.
"""

from __future__ import annotations

import warnings
from datetime import date, timedelta
from pathlib import Path

import exchange_calendars

MODULE = Path(__file__).resolve().parents[1] / "backfill_assets" / "domain" / "new_york.py"
FIRST_YEAR, LAST_YEAR = 1970, 2050  # a universe may start in 1970
FULL, HALF = 390, 210
BEGIN, END = '_TABLE = """\\\n', '"""\n'


def table() -> str:
    """Return one line per year: weekdays without a session, and after the bar sessions that are shorter than 390 minutes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars 4.13 uses deprecated names of pandas
        known = exchange_calendars.get_calendar("XNYS", start=f"{FIRST_YEAR}-01-01", end=f"{LAST_YEAR}-12-31")
    open_for = (known.closes - known.opens).dt.total_seconds() // 60
    minutes = {session.date(): int(length) for session, length in open_for.items()}
    lines = []
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        days = [date(year, 1, 1) + timedelta(days=n) for n in range(366)]
        weekdays = [day for day in days if day.year == year and day.weekday() < 5]
        closed = [f"{day:%m%d}" for day in weekdays if day not in minutes]
        short = [
            f"{day:%m%d}" if minutes[day] == HALF else f"{day:%m%d}={minutes[day]}"
            for day in weekdays
            if minutes.get(day, FULL) != FULL
        ]
        lines.append(" ".join([str(year), *closed, "|", *short]))
    return "\n".join(lines) + "\n"


def generated() -> str:
    """Return the module with the generated table."""
    head, _, rest = MODULE.read_text(encoding="utf-8").partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    MODULE.write_text(generated(), encoding="utf-8")
