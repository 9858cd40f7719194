"""One window of features: its bars, rows and marks in one transaction, also while others write or compute."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
import pytest

from backfill_assets.adapters import postgres
from backfill_assets.adapters.store import features
from backfill_assets.adapters.store.bars import WriteContext
from backfill_assets.adapters.store.copy_format import feature_blocks
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
from backfill_assets_tests.integration.adapters.store.test_feature_marks import marked, put
from backfill_assets_tests.support import MOMENT, rows

STORE = FeatureStore

NEW_YORK = ZoneInfo("America/New_York")
BEGINNING, END = datetime(2000, 1, 1, tzinfo=NEW_YORK), datetime(2100, 1, 1, tzinfo=NEW_YORK)
MINUTES = FeatureSeries("AAPL", MINUTE_1, NEW_YORK)
HALF_HOURS = FeatureSeries("AAPL", TIMEFRAMES["30m"], NEW_YORK)
MIDNIGHT = int(datetime(2024, 3, 4, tzinfo=NEW_YORK).timestamp()) * 1000
MINUTE, HALF_HOUR, DAY = 60_000, 1_800_000, 86_400_000
FIRST = [column.name for column in COLUMNS[:3]]
STORED = f"""select (extract(epoch from "timestamp") * 1000)::int8, {", ".join(FIRST)} from market_features
  where symbol = 'AAPL' and timeframe = %s order by 1"""  # noqa: S608  # names of the catalog


@pytest.fixture
def connection(database_url):
    with psycopg.connect(database_url, autocommit=True) as opened:
        yield opened


class Recorded:
    """Work that records its windows and computes the bar's close, the window's size, and the number of the call."""

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
    """Mark the rows of these bars, from the first to the last."""
    store.mark(series, instant(stamps[0]), instant(stamps[-1] + 1))


def drain(store, work, series=MINUTES, start=BEGINNING, end=END):
    """Compute what is stale, piece by piece; return the number of rows of each."""
    counts = []
    while (count := compute_window(store, work, series, start, end)) is not None:
        counts.append(count)
    return counts


def compute_window(store, work, series, start, end):
    """Compute one piece, as the pipeline does."""
    window = store.window(series, start, end)
    if window is None:
        return None
    values = work(window) if window.rows else np.empty((0, len(COLUMNS)))
    return window.rows if store.write(series, window, values) else 0


def written(url, timeframe="1m"):
    """Return the stored rows: start of the bar, close, window's size, number of the piece."""
    return rows(url, STORED, timeframe)


def stamps_of(url, timeframe="1m"):
    return [row[0] for row in written(url, timeframe)]


# --- Windows


@pytest.mark.parametrize("first", [0, 10, 639, 640, 641, 900])
def test_a_window_begins_the_look_back_before_its_first_row(store, connection, first):
    stamps = every(HALF_HOUR, 1000)
    put(connection, stamps, "30m")
    mark(store, stamps[first:], HALF_HOURS)
    work = Recorded()
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
    work = Recorded()
    assert drain(store, work) == [3 * 1440 - first]
    assert work.windows[0].first == max(LOOK_BACK, first % 1440)


def test_bars_after_the_last_row_are_not_read(store, connection):
    stamps = every(HALF_HOUR, 1000)
    put(connection, stamps, "30m")
    mark(store, stamps[700:800], HALF_HOURS)
    work = Recorded()
    assert drain(store, work, HALF_HOURS) == [100]
    assert work.windows[0].bars.timestamp.tolist() == stamps[:800][60:].tolist()


def test_windows_of_days_and_weeks_begin_with_the_first_bar(store, connection):
    stamps = every(DAY, 1500)
    for timeframe in (DAY_1, WEEK_1):
        series = FeatureSeries("AAPL", timeframe, NEW_YORK)
        put(connection, stamps[::7] if timeframe == WEEK_1 else stamps, timeframe.name)
        mark(store, stamps[1400:], series)
        work = Recorded()
        drain(store, work, series)
        assert work.windows[0].bars.timestamp[0] == stamps[0]


def test_the_days_of_a_week_reach_through_its_end_where_clocks_change(store, connection):
    sundays = [date(2024, 3, 3) + timedelta(weeks=n) for n in range(-20, 40)]  # over 10 March and 3 November
    put(connection, day_starts(sundays, NEW_YORK), "1w")
    days = [sundays[0] + timedelta(days=n) for n in range(7 * len(sundays)) if n % 7]  # a day each but the Sundays
    put(connection, day_starts(days, NEW_YORK), "1d")
    connection.execute(
        "insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at) "
        "values ('AAPL', 'split', '2020-01-02', 1, 2, now(), now())"
    )
    series = FeatureSeries("AAPL", WEEK_1, NEW_YORK)
    for number, sunday in enumerate(sundays):
        start = day_starts([sunday], NEW_YORK)
        mark(store, start, series)
        work = Recorded()
        assert drain(store, work, series) == [1]
        assert work.windows[0].days.timestamp.tolist() == day_starts(days[: 6 * (number + 1)], NEW_YORK).tolist()


def test_a_window_has_the_splits_that_apply(store, connection, database_url):
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
    work = Recorded()
    assert drain(store, work) == [5]
    assert work.windows[0].splits == [SplitRatio(day, *ratio) for day, ratio in sorted(SPLITS)]


SPLITS = [(date(2024, 6, 10), (1.0, 10.0)), (date(2024, 3, 6), (5.0, 1.0))]


# --- Pieces


@pytest.mark.parametrize(
    ("most", "counts"),
    [(1, [1] * 21 + [0]), (7, [7, 7, 7, 0]), (8, [8, 8, 5]), (20, [20, 1]), (21, [21, 0]), (22, [21])],
)
def test_a_piece_has_at_most_so_many_rows_and_none_is_left_out(
    store, connection, database_url, monkeypatch, most, counts
):
    monkeypatch.setattr(features, "MOST_ROWS", most)
    stamps = every(MINUTE, 30)
    put(connection, stamps)
    mark(store, stamps[4:25])
    work = Recorded()
    assert drain(store, work) == counts
    assert stamps_of(database_url) == stamps[4:25].tolist()
    assert [len(w.bars) - w.first for w in work.windows] == [count for count in counts if count]
    assert not marked(connection)


def test_stale_ranges_are_computed_one_by_one_and_nothing_between(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps[60:70])
    mark(store, stamps[10:20])
    mark(store, stamps[15:30])
    assert drain(store, Recorded()) == [20, 10]
    assert stamps_of(database_url) == [*stamps[10:30].tolist(), *stamps[60:70].tolist()]


def test_only_what_lies_between_the_instants_is_computed(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    store.mark(MINUTES, BEGINNING, END)
    connection.execute("update feature_marks set stale = tstzrange(null, null)")
    assert drain(store, Recorded(), start=instant(stamps[30]), end=instant(stamps[40])) == [10]
    assert stamps_of(database_url) == stamps[30:40].tolist()
    assert marked(connection) == [*stamps[:30].tolist(), *stamps[40:].tolist()]
    assert drain(store, Recorded()) == [30, 60]
    assert stamps_of(database_url) == stamps.tolist()


def test_rows_that_are_not_stale_are_not_written(store, connection, database_url):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps)
    drain(store, Recorded())
    query = 'select "timestamp", xmin::text, ctid::text, computed_at from market_features order by 1'
    before = rows(database_url, query)
    mark(store, stamps[50:53])
    drain(store, Recorded())
    after = rows(database_url, query)
    assert [n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one != other] == [50, 51, 52]
    assert drain(store, Recorded()) == []
    assert rows(database_url, query) == after


def test_the_row_of_a_deleted_bar_is_deleted(store, connection, database_url):
    stamps = every(MINUTE, 10)
    put(connection, stamps)
    mark(store, stamps)
    drain(store, Recorded())
    connection.execute(
        'delete from market_data where "timestamp" in (%s, %s)', [instant(stamps[4]), instant(stamps[9])]
    )
    mark(store, stamps)
    assert drain(store, Recorded()) == [8]
    assert stamps_of(database_url) == np.delete(stamps, [4, 9]).tolist()


def test_other_series_are_left_alone(store, connection, database_url):
    stamps = every(MINUTE, 10)
    others = [FeatureSeries("MSFT", MINUTE_1, NEW_YORK), FeatureSeries("AAPL", TIMEFRAMES["5m"], NEW_YORK)]
    for series in (MINUTES, *others):
        put(connection, stamps, series.timeframe.name, series.symbol)
        mark(store, stamps, series)
    assert drain(store, Recorded()) == [10]
    assert rows(database_url, "select distinct symbol, timeframe from market_features") == [("AAPL", "1m")]
    assert [drain(store, Recorded(), series) for series in others] == [[10], [10]]


def test_marks_without_bars_are_deleted(store, connection):
    put(connection, every(MINUTE, 10))
    store.mark(MINUTES, instant(MIDNIGHT + DAY), instant(MIDNIGHT + 2 * DAY))
    assert store.stale(["AAPL"], [MINUTE_1]) == []
    assert drain(store, Recorded()) == [0]
    assert connection.execute("select from feature_marks").fetchall() == []


def test_values_that_are_undefined_are_null(store, connection, database_url):
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


# --- Failures


class PowerCutError(Exception):
    """An error that no code expects."""


def test_a_failed_piece_changes_nothing(store, connection, database_url, monkeypatch):
    monkeypatch.setattr(features, "MOST_ROWS", 10)
    stamps = every(MINUTE, 35)
    put(connection, stamps)
    mark(store, stamps)

    def fail():
        if len(work.windows) == 3:
            raise PowerCutError

    work = Recorded(fail)
    with pytest.raises(PowerCutError):
        drain(store, work)
    assert stamps_of(database_url) == stamps[:20].tolist()
    assert marked(connection) == stamps[20:].tolist()
    assert drain(store, Recorded()) == [10, 5]
    assert stamps_of(database_url) == stamps.tolist()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("column", ["high", "volume"])
def test_a_bar_that_is_not_finite_is_named_and_nothing_is_written(store, connection, database_url, column, value):
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
        drain(store, Recorded())
    assert written(database_url) == []
    assert marked(connection) == stamps.tolist()


def test_a_connection_that_breaks_while_rows_are_written_is_replaced(store, connection, database_url, monkeypatch):
    monkeypatch.setattr(postgres, "RECONNECT_PAUSES", (0.0,) * 2)
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))

    cut = []

    def blocks(*arguments):
        if not cut:
            cut.extend(
                connection.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
                    "where datname = current_database() and pid <> pg_backend_pid()"
                ).fetchall()
            )
        return feature_blocks(*arguments)

    monkeypatch.setattr(features, "feature_blocks", blocks)
    assert drain(store, Recorded()) == [10]
    assert cut == [(True,)]
    assert len(written(database_url)) == 10


# --- Concurrency


def restate(connection, stamp, close):
    """Change the close of one bar and mark it, in a transaction that the caller commits."""
    values = [np.array([x]) for x in (close, close, close, close, 1.0, 1.0)]
    connection.execute("set local time zone 'UTC'")
    terms = WriteContext(NEW_YORK, MOMENT)
    terms.rows(connection, "AAPL", MINUTE_1).merge(Bars(np.array([stamp]), *values, np.array([1])))


@pytest.mark.parametrize("moment", ["marks", "window", "work", "lock_features", "marks_left", "clear"])
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
    drain(store, Recorded(write if moment == "work" else lambda: None))
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
        assert drain(store, Recorded()) == [20]
        assert {row[1] for row in written(database_url)} == {1.0}
        writer.commit()
    assert drain(store, Recorded()) == [15]
    assert [row[1] for row in written(database_url)] == [1.0] * 5 + [7.0] + [1.0] * 14


@pytest.mark.parametrize("most", [20, 4])
@pytest.mark.parametrize("again", [False, True])
def test_a_slow_computation_does_not_replace_newer_rows(store, connection, database_url, monkeypatch, most, again):
    monkeypatch.setattr(features, "MOST_ROWS", most)
    stamps = every(MINUTE, 10)
    put(connection, stamps)
    mark(store, stamps)

    def overtake():
        if len(slow.windows) == 1:
            assert sum(drain(store, Recorded())) == 10
            with connection.transaction():
                restate(connection, stamps[1], 7.0)
            if again:
                assert sum(drain(store, Recorded())) == 9

    slow = Recorded(overtake)
    assert sum(drain(store, slow)) == (0 if again else 9)
    assert [row[1] for row in written(database_url)] == [1.0, 7.0, *[1.0] * 8]


def test_two_computations_at_once_write_each_row_once(store, connection, database_url, monkeypatch):
    monkeypatch.setattr(features, "MOST_ROWS", 3)
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))
    both = threading.Barrier(2)

    def meet():
        with suppress(threading.BrokenBarrierError):
            both.wait(1)

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(drain, store, Recorded(meet)) for _ in range(2)]
        assert sum(sum(one.result(30)) for one in done) == 10
    assert len(written(database_url)) == 10


def test_other_series_do_not_wait(store, connection):
    other = FeatureSeries("MSFT", MINUTE_1, NEW_YORK)
    for series in (MINUTES, other):
        put(connection, every(MINUTE, 10), symbol=series.symbol)
        mark(store, every(MINUTE, 10), series)
    inside = []
    assert drain(store, Recorded(lambda: inside.append(drain(store, Recorded(), other)))) == [10]
    assert inside == [[10]]


def test_writing_bars_does_not_wait_for_computing(store, connection, database_url):
    put(connection, every(MINUTE, 10))
    mark(store, every(MINUTE, 10))

    def write():
        if len(work.windows) == 1:
            with psycopg.connect(database_url, options="-c lock_timeout=5s") as other:
                restate(other, MIDNIGHT, 7.0)

    work = Recorded(write)
    assert drain(store, work) == [10, 10]


# --- Queries


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


def test_stale_rows_keep_the_time_of_their_first_mark(store, connection):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    mark(store, stamps)
    long_ago = datetime(2020, 1, 1, tzinfo=NEW_YORK)
    connection.execute("update feature_marks set marked_at = %s", [long_ago])
    mark(store, stamps[50:])
    drain(store, Recorded(), end=instant(stamps[30]))
    assert [s.since for s in store.stale(["AAPL"], [MINUTE_1])] == [long_ago]


def test_bars_without_a_row_are_counted(store, connection):
    stamps = every(MINUTE, 100)
    put(connection, stamps)
    put(connection, stamps, symbol="MSFT")
    with connection.transaction():
        mark_rows(connection, "AAPL", "1m", [instant(stamps[0])], [instant(stamps[9])], NEW_YORK)
    drain(store, Recorded(), end=instant(stamps[40]))
    start, end = instant(stamps[20]), instant(stamps[60])
    found = store.covered(["AAPL", "MSFT", "NVDA"], [MINUTE_1], start, end)
    assert sorted(found, key=lambda c: c.symbol) == [
        Covered("AAPL", "1m", 40, 20, instant(stamps[40])),
        Covered("MSFT", "1m", 40, 40, start),
    ]
    assert [c.bare for c in store.covered(["AAPL"], [MINUTE_1], start, instant(stamps[40]))] == [0]
