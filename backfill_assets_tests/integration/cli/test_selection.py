from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.options import Names, Options, parse_day
from backfill_assets.cli.plan import show_plans
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.request_plan import RangeCall
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.domain.universe import Symbol
from backfill_assets.domain.universe_file import parse_universe
from backfill_assets.pipelines.backfill_request import Refresh
from backfill_assets.pipelines.selection import backfill_requests

NEW_YORK = ZoneInfo("America/New_York")

FRIDAY, THURSDAY = date(2025, 6, 6), date(2025, 6, 5)
SUNDAY_NOON = datetime(2025, 6, 8, 12, tzinfo=UTC)
UNIVERSE = parse_universe(
    "markets:\n"
    "  stocks: {start: 2024-01-02, symbols: [AAPL, MSFT, BRK.B]}\n"
    "  crypto: {start: 2024-03-01, symbols: [BTC, ETH]}\n"
    "  daily: {kind: stocks, start: 2025-01-01, symbols: [SPY], timeframes: [1d]}\n",
    "u.yaml",
    date(2025, 6, 8),
)


PARSERS = dict.fromkeys(("symbols", "markets", "timeframes"), Names.parse) | dict.fromkeys(("start", "end"), parse_day)


def chosen(now=SUNDAY_NOON, universe=UNIVERSE, **options):
    parsed = {name: PARSERS.get(name, lambda value: value)(value) for name, value in options.items()}
    return backfill_requests(Options(**parsed), universe, now)


def mistake(now=SUNDAY_NOON, **options):
    with pytest.raises(UsageMistake) as caught:
        chosen(now, **options)
    sentence = str(caught.value)
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence


def sessions(request):
    (found,) = set(request.wanted.values())
    return found


# --- Markets, symbols, timeframes


def test_without_options_everything_finished_is_selected():
    stocks, crypto, daily = chosen()
    assert [s.name for s in stocks.wanted] == ["AAPL", "MSFT", "BRK.B"]
    assert [s.name for s in crypto.wanted] == ["BTC", "ETH"]
    assert stocks.days == DayRange(date(2024, 1, 2), FRIDAY)
    assert crypto.days == DayRange(date(2024, 3, 1), date(2025, 6, 7))
    assert daily.days == DayRange(date(2025, 1, 2), FRIDAY)
    assert stocks.timeframes == crypto.timeframes == tuple(TIMEFRAMES.values())
    assert daily.timeframes == (DAY_1,)
    assert {o.refresh for o in (stocks, crypto, daily)} == {Refresh.NOTHING}


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        ({"symbols": "BRK.B,AAPL,BRK.B"}, {"stocks": "AAPL BRK.B"}),
        ({"symbols": " BTC , AAPL "}, {"stocks": "AAPL", "crypto": "BTC"}),
        ({"markets": "daily,crypto"}, {"crypto": "BTC ETH", "daily": "SPY"}),
        ({"timeframes": "1m"}, {"stocks": "AAPL MSFT BRK.B", "crypto": "BTC ETH"}),  # in the markets that have it
    ],
    ids=str,
)
def test_symbols_and_markets_keep_the_order_of_the_universe_and_are_unique(options, selected):
    found = chosen(**options)
    assert {o.market.name: " ".join(s.name for s in o.wanted) for o in found} == selected
    assert list(selected) == [o.market.name for o in found]


def test_timeframes_are_sorted_finest_first():
    assert [o.timeframes for o in chosen(timeframes="1m")] == [(MINUTE_1,)] * 2
    assert [o.timeframes for o in chosen(markets="stocks", timeframes="1d,1m")] == [(MINUTE_1, DAY_1)]


# --- Days


def june(*days):
    return tuple(date(2025, 6, day) for day in days)


@pytest.mark.parametrize(
    ("options", "stocks", "crypto"),
    [
        ({"days": 3}, june(4, 5, 6), june(5, 6, 7)),  # calendar days back from the newest finished session
        ({"days": 1}, june(6), june(7)),
        ({"days": 4, "end": "2025-06-05"}, june(2, 3, 4, 5), june(2, 3, 4, 5)),
        ({"start": "2025-05-31", "end": "2025-06-02"}, june(2), (date(2025, 5, 31), *june(1, 2))),
        ({"start": "2025-06-06", "end": "2025-06-06"}, june(6), june(6)),
        ({"start": "2025-06-07", "end": "2025-06-08"}, (), june(7)),  # a weekend
        ({"days": 36525, "end": "0050-01-01"}, (), ()),
    ],
    ids=str,
)
def test_days_select_the_sessions_of_each_market(options, stocks, crypto):
    of_stocks, of_crypto = chosen(markets="stocks,crypto", **options)
    assert (sessions(of_stocks), sessions(of_crypto)) == (stocks, crypto)


def test_the_most_days_reach_to_each_markets_start():
    assert [o.days for o in chosen(days=36525)] == [o.days for o in chosen()]


def test_a_range_that_begins_before_the_market_is_cut_to_its_start():
    stocks, crypto, daily = chosen(start="2020-01-01", end="2024-03-04")
    assert stocks.days == DayRange(date(2024, 1, 2), date(2024, 3, 4))
    assert crypto.days == DayRange(date(2024, 3, 1), date(2024, 3, 4))
    assert daily.days is None


@pytest.mark.parametrize("span", [{"start": "2000-01-01", "end": "2001-01-01"}, {"days": 30, "end": "2001-01-01"}])
def test_a_range_before_the_markets_has_no_sessions(span):
    found = chosen(**span)
    assert [o.market.name for o in found] == ["stocks", "crypto", "daily"]
    assert all(o.days is None and sessions(o) == () for o in found)


def test_an_end_beyond_today_is_cut_to_what_has_finished():
    for end in ("2025-06-08", "2025-12-31", "2400-01-01", "9999-12-31"):
        assert [o.days for o in chosen(end=end)] == [o.days for o in chosen()]


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        (datetime(2025, 6, 6, 12, tzinfo=NEW_YORK), THURSDAY),
        (datetime(2025, 6, 6, 20, 14, 59, tzinfo=NEW_YORK), THURSDAY),
        (datetime(2025, 6, 6, 20, 15, tzinfo=NEW_YORK), FRIDAY),
        (datetime(2025, 6, 9, 9, 30, tzinfo=NEW_YORK), FRIDAY),
    ],
)
def test_today_counts_once_it_has_finished(now, newest):
    (request,) = chosen(now, symbols="AAPL", end=now.date().isoformat())
    assert sessions(request)[-1] == newest


@pytest.mark.parametrize("options", [{"markets": "crypto"}, {"symbols": "BTC"}])
def test_today_is_in_the_time_zone_of_the_markets_that_are_selected(options):
    late = datetime(2025, 6, 6, 22, tzinfo=NEW_YORK)  # the 7th in UTC
    (request,) = chosen(late, start="2025-06-07", **options)
    assert sessions(request) == ()
    (request,) = chosen(late.replace(hour=12), symbols="AAPL", start="2025-06-06")
    assert sessions(request) == ()
    assert mistake(late, symbols="AAPL", markets="stocks", start="2025-06-07") == "--start 2025-06-07 is in the future."


def test_before_a_markets_first_session_has_finished_there_is_nothing():
    now = datetime(2025, 1, 2, 12, tzinfo=NEW_YORK)
    (request,) = chosen(now, markets="daily")
    assert sessions(request) == ()
    (request,) = chosen(now, markets="daily", days=5)
    assert sessions(request) == ()


# --- Mistakes


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"symbols": "AAPL,NOPE!"},
            "Symbol 'NOPE!' is not in the universe; there are AAPL, MSFT, BRK.B, BTC, ETH, SPY.",
        ),
        ({"symbols": "aapl"}, "Symbol 'aapl' is not in the universe; did you mean AAPL?"),
        ({"symbols": "APPL"}, "Symbol 'APPL' is not in the universe; did you mean AAPL?"),
        ({"symbols": "brk-b"}, "Symbol 'brk-b' is not in the universe; did you mean BRK.B?"),
        ({"markets": "stock"}, "Market 'stock' is not in the universe; did you mean stocks?"),
        ({"markets": "zzz"}, "Market 'zzz' is not in the universe; there are stocks, crypto, daily."),
        ({"timeframes": "1m,7m"}, "Timeframe '7m' is unknown: there are 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w."),
        ({"markets": "daily", "timeframes": "1m"}, "Timeframe 1m is not in the universe for daily."),
        ({"symbols": "SPY", "timeframes": "1m"}, "Timeframe 1m is not in the universe for daily."),
        ({"symbols": "AAPL", "markets": "crypto"}, "Symbol 'AAPL' is not in the selected markets; there are BTC, ETH."),
        ({"start": "2025-02-02", "end": "2025-02-01"}, "--end 2025-02-01 is before --start 2025-02-02."),
        ({"start": "2025-06-10"}, "--start 2025-06-10 is in the future."),
        ({"start": "2025-06-10", "end": "2025-06-12"}, "--start 2025-06-10 is in the future."),
        ({"days": 3, "start": "2025-01-01"}, "--days and --start exclude each other: give one of them."),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "sentence",
)
def test_a_wrong_selection_is_one_sentence(options, sentence):
    assert mistake(**options) == sentence


@pytest.mark.parametrize(
    ("option", "values", "sentence"),
    [
        ("--symbols", ["", "AAPL,,MSFT", "AAPL,", " ", ","], "{value!r} is not a list like A,B."),
        ("--markets", [" "], "{value!r} is not a list like A,B."),
        ("--timeframes", [","], "{value!r} is not a list like A,B."),
        (
            "--start",
            ["2025-13-01", "2025-02-30", "2025-01-01T00:00", "", "31.01.2025", "1"],
            "{value!r} is not a date like 2025-01-31.",
        ),
        ("--end", ["yesterday", "２０２５-01-01"], "{value!r} is not a date like 2025-01-31."),  # noqa: RUF001  # tried
        ("--days", ["1.5", "three", "٣"], "must be a valid integer"),
        ("--days", ["-3", "0"], "must be at least 1."),
        ("--days", ["36526"], "must be at most 36525."),
        ("--max-concurrent", ["51"], "must be at most 50."),
    ],
)
def test_a_malformed_value_is_one_sentence_that_names_the_option(bare_backfill, option, values, sentence):
    for value in values:
        result = bare_backfill("features", f"{option}={value}")
        assert result.code == 2
        assert result.error.startswith(f"Invalid value for '{option}': {sentence.format(value=value)}")
        assert result.error.endswith(". See `backfill features --help`.")


def test_only_ten_known_symbols_are_named():
    many = parse_universe(
        f"markets: {{stocks: {{start: 2024-01-02, symbols: [{', '.join(f'S{n:02}' for n in range(14))}]}}}}",
        "u.yaml",
        date(2025, 6, 8),
    )
    with pytest.raises(UsageMistake, match=r"there are S00, .*, S09 and 4 more\.$"):
        chosen(universe=many, symbols="NOPE!")


def test_a_plan_has_a_line_for_each_timeframe_or_each_request(capsys):
    day = date(2025, 1, 31)
    few = [RangeCall(Symbol("BRK.B", "BRK.B"), MINUTE_1, (day, day + ONE_DAY), 1)]
    many = [RangeCall(Symbol(f"S{n}", f"S{n}"), t, (day,), 2) for n in range(11) for t in (MINUTE_1, DAY_1)]
    total = ["45", "requests", "at", "2.5", "per", "second:", "at", "least", "18", "s."]

    def shown(*, verbose):
        show_plans({"stocks": many, "etfs": few}, Settings(), verbose=verbose, as_json=False)
        first, _, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
        assert first == total
        return rows

    assert shown(verbose=False) == [
        ["stocks", "11", "symbols", "1m", "2025-01-31", "polygon", "1", "22"],
        ["stocks", "11", "symbols", "1d", "2025-01-31", "polygon", "1", "22"],
        ["etfs", "BRK.B", "1m", "2025-01-31", "to", "2025-02-01", "polygon", "2", "1"],
    ]
    assert len(shown(verbose=True)) == 23
    show_plans({"stocks": []}, Settings(), verbose=False, as_json=False)
    assert capsys.readouterr().out == "Nothing to fetch.\n"
