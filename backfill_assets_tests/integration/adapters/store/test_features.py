"""One piece of work: its window, its rows, its marks, all in one transaction, whoever else writes or computes meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest

from backfill_assets.adapters import postgres
from backfill_assets.adapters.store import features
from backfill_assets.adapters.store.bars import WriteContext
from backfill_assets.adapters.store.base import reconnecting
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.feature_marks import mark_rows
from backfill_assets.adapters.store.features import Covered, FeatureSeries, FeatureStore, UnusableBars
from backfill_assets.adapters.store.rows import instant
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.corporate_actions import ActionKind, CorporateAction, ListedActions
from backfill_assets.domain.features import COLUMNS, LOOK_BACK
from backfill_assets.domain.sessions import day_starts
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.integration.adapters.store.test_bars import waits_for_a_lock
from backfill_assets_tests.integration.adapters.store.test_feature_marks import marked, put
from backfill_assets_tests.support import MOMENT, rows

NEW_YORK = ZoneInfo("America/New_York")
BEGINNING, END = datetime(2000, 1, 1, tzinfo=NEW_YORK), datetime(2100, 1, 1, tzinfo=NEW_YORK)
MINUTES = FeatureSeries("AAPL", MINUTE_1, NEW_YORK)
HALF_HOURS = FeatureSeries("AAPL", TIMEFRAMES["30m"], NEW_YORK)
MIDNIGHT = int(datetime(2024, 3, 4, tzinfo=NEW_YORK).timestamp()) * 1000
MINUTE, HALF_HOUR, DAY = 60_000, 1_800_000, 86_400_000
TOLD = [column.name for column in COLUMNS[:3]]
STORED = f"""select (extract(epoch from "timestamp") * 1000)::int8, {", ".join(TOLD)} from market_features
  where symbol = 'AAPL' and timeframe = %s order by 1"""  # noqa: S608  # names of the catalog


@pytest.fixture
def store(database_url):
    with FeatureStore(database_url) as opened:
        yield opened


@pytest.fixture
def connection(database_url):
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


class Told:
    """Work that notes its windows, and makes rows of: the bar's close, the window's size, how often it was asked."""

    def __init__(self, meanwhile=lambda: None):
        self.windows = []
        self._meanwhile = meanwhile

    def __call__(self, window):
        self.windows.append(window)
        self._meanwhile()
        wanted = window.bars.close[window.first :]
        values = np.full((len(wanted), len(COLUMNS)), np.nan)
        values[:, 0], values[:, 1], values[:, 2] = wanted, len(window.bars), len(self.windows)
        return values


def every(step, number, start=MIDNIGHT):
    return start + step * np.arange(number, dtype=np.int64)


def mark(store, stamps, series=MINUTES):
    """The rows of these bars, from the first to the last."""
    store.mark(series, instant(stamps[0]), instant(stamps[-1] + 1))


def drain(store, work, series=MINUTES, start=BEGINNING, end=END):
    """Whatever is stale, piece by piece: how many rows each wrote."""
    counts = []
    while (count := compute_window(store, work, series, start, end)) is not None:
        counts.append(count)
    return counts


@reconnecting
def compute_window(store, work, series, start, end):
    """One piece, as the pipeline does it."""
    with store.locked(series, start, end) as window:
        if window is None:
            return None
        window.write(work(window) if window.rows else np.empty((0, len(COLUMNS))))
        return window.rows


def written(url, timeframe="1m"):
    """The stored rows: start of the bar, close, window's size, number of the piece."""
    return rows(url, STORED, timeframe)


def stamps_of(url, timeframe="1m"):
    return [row[0] for row in written(url, timeframe)]


# --- Windows


@pytest.mark.parametrize("first", [0, 10, 639, 640, 641, 900])
def test_a_window_begins_the_look_back_before_its_first_row(store, connection, first):
    stamps = every(HALF_HOUR, 1000)
    put(connection, stamps, "30m")
    mark(store, stamps[first:], HALF_HOURS)
    work = Told()
    assert drain(store, work, HALF_HOURS) == [1000 - first]
    (window,) = work.windows
    before = max(LOOK_BACK, first % 48) if first >= LOOK_BACK else first
    assert window.first == before
    assert window.bars.timestamp.tolist() == stamps[first - before :].tolist()


@pytest.mark.parametrize("first", [1439, 1440, 1441, 1440 + 700, 2 * 1440 + 900])
def test_a_window_holds_the_session_of_its_first_row_from_its_beginning(store, connection, first):
    stamps = every(MINUTE, 3 * 1440)
    put(connection, stamps)
    mark(store, stamps[first:])
    work = Told()
    assert drain(store, work) == [3 * 1440 - first]
    assert work.windows[0].first == max(LOOK_BACK, first % 1440)


def test_bars_after_the_last_row_are_not_read(store, connection):
    stamps = every(HALF_HOUR, 1000)
    put(connection, stamps, "30m")
    mark(store, stamps[700:800], HALF_HOURS)
    work = Told()
    assert drain(store, work, HALF_HOURS) == [100]
    assert work.windows[0].bars.timestamp.tolist() == stamps[:800][60:].tolist()


def test_days_and_weeks_are_given_everything_before(store, connection):
    stamps = every(DAY, 1500)
    for timeframe in (DAY_1, WEEK_1):
        series = FeatureSeries("AAPL", timeframe, NEW_YORK)
        put(connection, stamps[::7] if timeframe == WEEK_1 else stamps, timeframe.name)
        mark(store, stamps[1400:], series)
        work = Told()
        drain(store, work, series)
        assert work.windows[0].bars.timestamp[0] == stamps[0]


def test_the_days_of_a_week_reach_through_its_end_where_clocks_change(store, connection):
    sundays = [date(2024, 3, 3) + timedelta(weeks=n) for n in range(-20, 40)]  # over 10 March and 3 November
    put(connection, day_starts(sundays, NEW_YORK), "1w")
    days = [sundays[0] + timedelta(days=n) for n in range(7 * len(sundays)) if n % 7]  # a day each but the Sundays
    put(connection, day_starts(days, NEW_YORK), "1d")
    series = FeatureSeries("AAPL", WEEK_1, NEW_YORK)
    for number, sunday in enumerate(sundays):
        start = day_starts([sunday], NEW_YORK)
        mark(store, start, series)
        work = Told()
        assert drain(store, work, series) == [1]
        assert work.windows[0].daily().timestamp.tolist() == day_starts(days[: 6 * (number + 1)], NEW_YORK).tolist()


def test_a_window_tells_the_splits_that_act(store, connection, database_url):
    put(connection, every(MINUTE, 5))
    later, sooner = (CorporateAction("AAPL", ActionKind.SPLIT, day, *ratio) for day, ratio in SPLITS)
    other = CorporateAction("MSFT", ActionKind.SPLIT, date(2024, 3, 4), 1.0, 2.0)
    gone = CorporateAction("AAPL", ActionKind.SPLIT, date(2024, 2, 1), 1.0, 3.0)
    dividend = CorporateAction("AAPL", ActionKind.DIVIDEND, date(2024, 2, 2), cash_amount=1.0)
    with CorporateActionStore(database_url) as events:
        for listed in ((later, sooner, other, gone, dividend), (later, sooner, other, dividend)):
            complete = frozenset((symbol, kind) for symbol in ("AAPL", "MSFT") for kind in ActionKind)
            events.record(["AAPL", "MSFT"], ListedActions(date(2024, 1, 1), listed, complete), [], MOMENT, NEW_YORK)
    mark(store, every(MINUTE, 5))
    work = Told()
    assert drain(store, work) == [5]
    assert work.windows[0].splits == [SplitRatio(day, *ratio) for day, ratio in sorted(SPLITS)]


SPLITS = [(date(2024, 6, 10), (1.0, 10.0)), (date(2024, 3, 6), (5.0, 1.0))]


# --- Pieces


@pytest.mark.parametrize(
    ("most", "counts"),
    [(1, [1] * 21 + [0]), (7, [7, 7, 7, 0]), (8, [8, 8, 5]), (20, [20, 1]), (21, [21, 0]), (22, [21])],
)
def test_pieces_are_of_most_rows_each_and_leave_out_none(store, connection, database_url, monkeypatch, most, counts):
    monkeypatch.setattr(features, "MOST_ROWS", most)
    stamps = every(MINUTE, 30)
    put(connection, stamps)
    mark(store, stamps[4:25])
    work = Told()
    assert drain(store, work) == counts
    assert stamps_of(database_url) == stamps[4:25].tolist()
    assert [len(w.bars) - w.first for w in work.windows] == [count for count in counts if count]
    assert not marked(connection)


def test_stretches_are_computed_one_by_one_and_nothing_between(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps[60:70])
    mark(store, stamps[10:20])
    mark(store, stamps[15:30])
    assert drain(store, Told()) == [20, 10]
    assert stamps_of(database_url) == [*stamps[10:30].tolist(), *stamps[60:70].tolist()]


def test_only_what_lies_between_the_instants_is_computed(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    store.mark(MINUTES, BEGINNING, END)
    connection.execute("update feature_marks set stale = tstzrange(null, null)")
    assert drain(store, Told(), start=instant(stamps[30]), end=instant(stamps[40])) == [10]
    assert stamps_of(database_url) == stamps[30:40].tolist()
    assert marked(connection) == [*stamps[:30].tolist(), *stamps[40:].tolist()]
    assert drain(store, Told()) == [30, 60]
    assert stamps_of(database_url) == stamps.tolist()


def test_rows_that_are_not_stale_are_not_written(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps)
    drain(store, Told())
    query = 'select "timestamp", xmin::text, ctid::text, computed_at from market_features order by 1'
    before = rows(database_url, query)
    mark(store, stamps[50:53])
    drain(store, Told())
    after = rows(database_url, query)
    assert [n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [50, 51, 52]
    assert drain(store, Told()) == []
    assert rows(database_url, query) == after


def test_the_row_of_a_bar_that_is_gone_goes(store, connection, database_url):
    stamps = every(MINUTE, 10)
    put(connection, stamps)
    mark(store, stamps)
    drain(store, Told())
    connection.execute(
        'delete from market_data where "timestamp" in (%s, %s)', [instant(stamps[4]), instant(stamps[9])]
    )
    mark(store, stamps)
    assert drain(store, Told()) == [8]
    assert stamps_of(database_url) == np.delete(stamps, [4, 9]).tolist()


def test_other_series_are_left_alone(store, connection, database_url):
    stamps = every(MINUTE, 10)
    others = [FeatureSeries("MSFT", MINUTE_1, NEW_YORK), FeatureSeries("AAPL", TIMEFRAMES["5m"], NEW_YORK)]
    for series in (MINUTES, *others):
        put(connection, stamps, series.timeframe.name, series.symbol)
        mark(store, stamps, series)
    assert drain(store, Told()) == [10]
    assert rows(database_url, "select distinct symbol, timeframe from market_features") == [("AAPL", "1m")]
    assert [drain(store, Told(), series) for series in others] == [[10], [10]]


def test_marks_without_bars_are_done_with(store, connection):
    put(connection, every(MINUTE, 10))
    store.mark(MINUTES, instant(MIDNIGHT + DAY), instant(MIDNIGHT + 2 * DAY))
    assert store.stale(["AAPL"], [MINUTE_1]) == []
    assert drain(store, Told()) == [0]
    assert connection.execute("select from feature_marks").fetchall() == []


def test_what_has_no_value_is_null(store, connection, database_url):
    put(connection, every(MINUTE, 3))
    mark(store, every(MINUTE, 3))

    def work(window):
        values = np.full((len(window.bars), len(COLUMNS)), np.nan)
        values[1] = 7.0
        return values

    compute_window(store, work, MINUTES, BEGINNING, END)
    names = ", ".join(column.name for column in COLUMNS)
    found = rows(database_url, f"select {names} from market_features order by timestamp")  # noqa: S608  # of the catalog
    assert found == [(None,) * len(COLUMNS), (7.0,) * len(COLUMNS), (None,) * len(COLUMNS)]


# --- What goes wrong


class PowerCutError(Exception):
    """Something nobody foresaw."""


def test_work_that_fails_leaves_everything_as_it_was(store, connection, database_url, monkeypatch):
    monkeypatch.setattr(features, "MOST_ROWS", 10)
    stamps = every(MINUTE, 35)
    put(connection, stamps)
    mark(store, stamps)

    def fail():
        if len(work.windows) == 3:
            raise PowerCutError

    work = Told(fail)
    with pytest.raises(PowerCutError):
        drain(store, work)
    assert stamps_of(database_url) == stamps[:20].tolist()
    assert marked(connection) == stamps[20:].tolist()
    assert drain(store, Told()) == [10, 5]
    assert stamps_of(database_url) == stamps.tolist()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("column", ["high", "volume"])
def test_a_bar_that_is_no_number_is_named_and_nothing_is_written(store, connection, database_url, column, value):
    stamps = every(MINUTE, 10)
    put(connection, stamps)
    mark(store, stamps)
    with psycopg.connect(database_url) as other:
        other.execute(
            f"update market_data set {column} = %s where \"timestamp\" >= '2024-03-04 05:03Z'",  # noqa: S608  # named above
            [value],
        )
    error = (
        r"AAPL 1m: the bar of 2024-03-04 05:03 UTC has a price or a volume that is not a finite number; "
        r"correct it in \w+$"
    )
    with pytest.raises(UnusableBars, match=error):
        drain(store, Told())
    assert written(database_url) == []
    assert marked(connection) == stamps.tolist()


def test_a_connection_that_breaks_is_replaced_and_the_piece_done_again(store, connection, database_url, monkeypatch):
    monkeypatch.setattr(postgres, "RECONNECT_PAUSES", (0.0,) * 2)
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))

    def cut():
        if len(work.windows) == 1:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                "where datname = current_database() and state = 'idle in transaction'"
            )

    work = Told(cut)
    assert drain(store, work) == [10]
    assert [row[3] for row in written(database_url)] == [2.0] * 10


# --- Others at work


def restate(connection, stamp, close):
    """Another close of one bar, with its mark, in a transaction that the caller commits."""
    values = [np.array([x]) for x in (close, close, close, close, 1.0, 1.0)]
    connection.execute("set local time zone 'UTC'")
    terms = WriteContext(NEW_YORK, MOMENT)
    terms.rows(connection, "AAPL", MINUTE_1).merge(Bars(np.array([stamp]), *values, np.array([1])))


@pytest.mark.parametrize("moment", ["lock_features", "marks", "window", "work", "clear"])
@pytest.mark.parametrize("which", ["first", "within", "last", "new"])
def test_bars_that_are_written_at_any_moment_of_a_piece_are_computed(
    store, connection, database_url, monkeypatch, moment, which
):
    stamps = every(MINUTE, 50)
    put(connection, np.delete(stamps, 25))
    mark(store, stamps[10:40])
    stamp = {"first": stamps[10], "within": stamps[20], "last": stamps[39], "new": stamps[25]}[which]
    done = []

    def write():
        if not done:
            done.append(stamp)
            with psycopg.connect(database_url) as other:
                restate(other, stamp, 7.0)

    execute = psycopg.Cursor.execute

    def watched(cursor, query, *args, **options):
        result = execute(cursor, query, *args, **options)
        if query == features.SQL.get(moment):
            write()
        return result

    monkeypatch.setattr(psycopg.Cursor, "execute", watched)
    drain(store, Told(write if moment == "work" else lambda: None))
    assert done
    found = {row[0]: row[1] for row in written(database_url)}
    assert found[int(stamp)] == 7.0
    there = stamps if which == "new" else np.delete(stamps, 25)
    assert sorted(found) == there[there >= stamps[10]].tolist(), "whatever the change can reach has its row"
    assert not marked(connection)


def test_bars_that_are_committed_after_a_piece_are_computed_later(store, connection, database_url):
    stamps = every(MINUTE, 20)
    put(connection, stamps)
    mark(store, stamps)
    with psycopg.connect(database_url) as writer:
        restate(writer, stamps[5], 7.0)
        assert drain(store, Told()) == [20]
        assert {row[1] for row in written(database_url)} == {1.0}
        writer.commit()
    assert drain(store, Told()) == [15]
    assert [row[1] for row in written(database_url)] == [1.0] * 5 + [7.0] + [1.0] * 14


def test_who_computes_the_same_series_waits_and_does_not_do_it_again(store, connection, database_url):
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))
    begun, go_on = threading.Event(), threading.Event()

    def hold():
        begun.set()
        assert go_on.wait(30)

    second = Told()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(drain, store, Told(hold))
        assert begun.wait(30)
        other = pool.submit(drain, store, second)
        waits_for_a_lock(connection)
        go_on.set()
        assert (one.result(30), other.result(30)) == ([10], [])
    assert second.windows == []
    assert len(written(database_url)) == 10


def test_other_series_do_not_wait(store, connection):
    other = FeatureSeries("MSFT", MINUTE_1, NEW_YORK)
    for series in (MINUTES, other):
        put(connection, every(MINUTE, 10), symbol=series.symbol)
        mark(store, every(MINUTE, 10), series)
    inside = []
    assert drain(store, Told(lambda: inside.append(drain(store, Told(), other)))) == [10]
    assert inside == [[10]]


def test_writing_bars_does_not_wait_for_computing(store, connection, database_url):
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))

    def write():
        if len(work.windows) == 1:
            with psycopg.connect(database_url, options="-c lock_timeout=5s") as other:
                restate(other, MIDNIGHT, 7.0)

    work = Told(write)
    assert drain(store, work) == [10, 10]


# --- What stands where


def test_stale_features_are_listed_by_series(store, connection):
    stamps = every(MINUTE, 100)
    for symbol in ("AAPL", "MSFT", "NVDA"):
        put(connection, stamps, symbol=symbol)
    put(connection, stamps, "5m")
    mark(store, stamps[20:30])
    mark(store, stamps[50:60])
    mark(store, stamps[:5], FeatureSeries("NVDA", MINUTE_1, NEW_YORK))
    store.mark(FeatureSeries("MSFT", MINUTE_1, NEW_YORK), instant(stamps[99] + 1), END)
    found = store.stale(["AAPL", "MSFT"], [MINUTE_1, TIMEFRAMES["5m"]])
    assert [(s.symbol, s.timeframe, s.first, s.last) for s in found] == [
        ("AAPL", "1m", instant(stamps[20]), instant(stamps[59]))
    ]
    ids = [row[0] for row in connection.execute("select max(id) from feature_marks where symbol = 'AAPL'").fetchall()]
    assert [s.newest_mark for s in found] == ids


def test_what_waits_keeps_the_instant_since_when(store, connection):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps)
    long_ago = datetime(2020, 1, 1, tzinfo=NEW_YORK)
    connection.execute("update feature_marks set marked_at = %s", [long_ago])
    mark(store, stamps[50:])
    drain(store, Told(), end=instant(stamps[30]))
    assert [s.since for s in store.stale(["AAPL"], [MINUTE_1])] == [long_ago]


def test_bars_without_a_row_are_counted(store, connection):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    put(connection, stamps, symbol="MSFT")
    with connection.transaction():
        mark_rows(connection, "AAPL", "1m", [instant(stamps[0])], [instant(stamps[9])], NEW_YORK)
    drain(store, Told(), end=instant(stamps[40]))
    start, end = instant(stamps[20]), instant(stamps[60])
    found = store.covered(["AAPL", "MSFT", "NVDA"], [MINUTE_1], start, end)
    assert sorted(found, key=lambda c: c.symbol) == [
        Covered("AAPL", "1m", 40, 20, instant(stamps[40])),
        Covered("MSFT", "1m", 40, 40, start),
    ]
    assert [c.bare for c in store.covered(["AAPL"], [MINUTE_1], start, instant(stamps[40]))] == [0]
