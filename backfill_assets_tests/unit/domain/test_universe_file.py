import re
from datetime import date
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.errors import UniverseMistake
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.domain.universe import MOST_SYMBOLS, Market, Symbol, Universe
from backfill_assets.domain.universe_file import parse_universe

TODAY = date(2025, 6, 2)
GOOD = """\
markets:
  stocks:
    start: 2024-01-02
    symbols: [AAPL, BRK.B]
  coins:
    kind: crypto
    start: 2024-01-01
    symbols:
      - BTC
      - {symbol: ETHER, ticker: X:ETHUSD}
    timeframes: [1d]
"""
CLOSED = GOOD + "    extra_closures: [2025-01-09, 2026-12-24]\n"


def parse(text):
    return parse_universe(text, "u.yaml", TODAY)


def mistake(text):
    with pytest.raises(UniverseMistake) as caught:
        parse(text)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence[-1] in ".?"
    return sentence


def stocks(symbols="[AAPL]", start="2024-01-02", *more):
    lines = ["markets:", "  stocks:", f"    start: {start}", f"    symbols: {symbols}", *(f"    {m}" for m in more)]
    return "\n".join(lines) + "\n"


def closures(written):
    return stocks("[A]", "2024-01-02", f"extra_closures: {written}")


def names(text):
    return [s.name for s in parse(text).markets[0].symbols]


# --- What is meant


def test_a_universe_is_read_in_the_order_of_its_file():
    assert parse(GOOD) == Universe(
        (
            Market(
                "stocks",
                Kind.STOCKS,
                date(2024, 1, 2),
                (Symbol("AAPL", "AAPL"), Symbol("BRK.B", "BRK.B")),
                tuple(TIMEFRAMES.values()),
            ),
            Market(
                "coins",
                Kind.CRYPTO,
                date(2024, 1, 1),
                (Symbol("BTC", "X:BTCUSD"), Symbol("ETHER", "X:ETHUSD")),
                (DAY_1,),
            ),
        )
    )


def test_a_universe_finds_its_markets_and_symbols_by_name():
    universe = parse(GOOD)
    assert universe.market("coins").symbol("ETHER").ticker == "X:ETHUSD"
    for absent in (lambda: universe.market("bonds"), lambda: universe.market("coins").symbol("AAPL")):
        with pytest.raises(KeyError):
            absent()


def test_the_packaged_universe_has_20_stocks_and_5_coins():
    text = files("backfill_assets").joinpath("universe.yaml").read_text(encoding="utf-8")
    universe = parse(text)
    assert {m.name: (m.kind, len(m.symbols)) for m in universe.markets} == {
        "stocks": (Kind.STOCKS, 20),
        "crypto": (Kind.CRYPTO, 5),
    }
    assert universe.market("crypto").symbol("BTC").ticker == "X:BTCUSD"
    assert all(s.ticker == s.name for s in universe.market("stocks").symbols)
    assert universe.warnings() == []


@pytest.mark.parametrize("kind", Kind)
def test_a_market_named_like_a_kind_is_of_that_kind(kind):
    text = f"markets:\n  {kind}:\n    start: 2024-01-02\n    symbols: [A]\n"
    assert parse(text).markets[0].kind is kind


def test_a_kind_that_is_written_outweighs_the_name():
    text = "markets:\n  stocks:\n    kind: crypto\n    start: 2024-01-02\n    symbols: [A]\n"
    assert parse(text).markets[0].symbols == (Symbol("A", "X:AUSD"),)


def test_several_markets_may_be_of_one_kind():
    text = (
        "markets:\n"
        "  large: {kind: stocks, start: 2024-01-02, symbols: [AAPL]}\n"
        "  small: {kind: stocks, start: 2024-01-03, symbols: [GME]}\n"
    )
    assert [(m.name, m.kind) for m in parse(text).markets] == [("large", Kind.STOCKS), ("small", Kind.STOCKS)]


def test_a_ticker_of_its_own_lets_two_markets_have_a_symbol_that_both_call_the_same():
    text = (
        "markets:\n"
        "  stocks: {start: 2024-01-02, symbols: [BTC]}\n"
        "  crypto: {start: 2024-01-02, symbols: [{symbol: BTC-COIN, ticker: 'X:BTCUSD'}]}\n"
    )
    assert [m.symbols[0] for m in parse(text).markets] == [Symbol("BTC", "BTC"), Symbol("BTC-COIN", "X:BTCUSD")]


def test_a_symbol_mapping_without_a_ticker_is_a_symbol():
    assert parse(stocks("[{symbol: AAPL}]")).markets[0].symbols == (Symbol("AAPL", "AAPL"),)


@pytest.mark.parametrize(
    ("written", "built"),
    [("[1m]", (MINUTE_1,)), ("[1d]", (DAY_1,)), ("[1d, 1m]", (MINUTE_1, DAY_1))],
)
def test_timeframes_stand_finest_first_however_they_are_written(written, built):
    assert parse(stocks("[A]", "2024-01-02", f"timeframes: {written}")).markets[0].timeframes == built


def test_extra_closures_are_read_in_ascending_order_and_may_lie_in_the_future():
    written = "extra_closures: [2026-12-24, 2024-01-02, '2025-01-09', 9999-12-31]"
    (market,) = parse(stocks("[A]", "2024-01-02", written)).markets
    assert market.closures == (date(2024, 1, 2), date(2025, 1, 9), date(2026, 12, 24), date(9999, 12, 31))


def test_a_closure_that_every_calendar_knows_may_be_written_all_the_same():
    assert parse(stocks("[A]", "2024-01-02", "extra_closures: [2024-12-25]")).markets[0].closures == (
        date(2024, 12, 25),
    )


def test_crypto_may_be_closed_on_a_weekend():
    text = "markets: {crypto: {start: 2024-01-01, symbols: [A], extra_closures: [2024-03-09, 2024-03-10]}}"
    assert parse(text).markets[0].closures == (date(2024, 3, 9), date(2024, 3, 10))


def test_without_extra_closures_a_market_has_none():
    assert [m.closures for m in parse(GOOD).markets] == [(), ()]


def test_a_market_may_start_today_and_as_early_as_1970():
    for start in (TODAY, date(1970, 1, 1)):
        assert parse(stocks("[A]", start.isoformat())).markets[0].start == start


def test_more_symbols_than_asset_pages_bear_are_read_with_a_warning():
    def numbered(n):
        return parse(stocks(f"[{', '.join(f'S{i}' for i in range(n))}]"))

    assert numbered(MOST_SYMBOLS).warnings() == []
    (warning,) = numbered(MOST_SYMBOLS + 1).warnings()
    assert warning.startswith("Market stocks has 101 symbols:")
    assert "kind stocks" in warning
    assert len(numbered(5000).markets[0].symbols) == 5000


# --- What YAML makes of it


def test_words_that_yaml_takes_for_something_else_are_tickers():
    words = "ON, OFF, YES, NO, Y, N, TRUE, FALSE, NULL, 1E5, 007, 0x1F, 1.0, 12"
    assert names(stocks(f"[{words}]")) == words.split(", ")


def test_quoted_words_are_the_same_words():
    assert names(stocks("""['ON', "NO", Y]""")) == ["ON", "NO", "Y"]


def test_a_tag_changes_nothing():
    assert names(stocks("[!!int 7, !!python/name:os.system A]")) == ["7", "A"]


def test_a_start_in_quotes_is_the_same_day():
    assert parse(stocks("[A]", "'2024-01-02'")).markets[0].start == date(2024, 1, 2)


def test_an_alias_stands_for_what_it_names():
    text = (
        "markets:\n"
        "  stocks: {start: &day 2024-01-02, symbols: [A], timeframes: &tf [1d]}\n"
        "  crypto: {start: *day, symbols: [BTC], timeframes: *tf}\n"
    )
    first, second = parse(text).markets
    assert first.start == second.start
    assert first.timeframes == second.timeframes == (DAY_1,)


def test_symbols_by_alias_in_a_second_market_are_symbols_in_two_markets():
    text = (
        "markets:\n"
        "  stocks: {start: 2024-01-02, symbols: &all [A]}\n"
        "  more: {kind: stocks, start: 2024-01-02, symbols: *all}\n"
    )
    assert mistake(text).startswith("u.yaml, line 2: symbol A stands in stocks and in more")


def test_merge_keys_are_unknown_keys():
    text = "markets:\n  stocks: &s\n    start: 2024-01-02\n    symbols: [A]\n  more:\n    <<: *s\n    kind: stocks\n"
    assert mistake(text).startswith("u.yaml, line 6: market more has an unknown key `<<`")


@pytest.mark.parametrize(
    "text", ["&a [*a]", "markets: &a\n  stocks: *a\n", "markets:\n  stocks: &a {start: *a, symbols: *a}"]
)
def test_a_file_that_contains_itself_is_refused(text):
    assert mistake(text).startswith("u.yaml, line ")


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("", "u.yaml is empty; it needs `markets:`"),
        ("# nothing yet\n", "u.yaml is empty; it needs `markets:`"),
        ("---", "u.yaml, line 1: the file is no mapping"),
        ("markets: {}\n---\nmarkets: {}\n", "u.yaml, line 2: not valid YAML (but found another document)"),
        ("markets:\n\tstocks:\n", "u.yaml, line 2: not valid YAML (found character '\\t'"),
        ("markets:\n  stocks: [\n", "u.yaml, line 3: not valid YAML"),
        ("markets:\n  stocks: *nothing\n", "u.yaml, line 2: not valid YAML (found undefined alias"),
        ("markets:\n  stocks: 'A\n", "u.yaml, line 3: not valid YAML"),
        ("markets: a: b\n", "u.yaml, line 1: not valid YAML"),
        ("markets:\n  stocks:\n start: 2024-01-02\n", "u.yaml, line 3: not valid YAML"),
        ("markets:\n  a\0b: 1\n", "u.yaml: not valid YAML; it holds characters"),
        ("markets:\n  \x07: 1\n", "u.yaml: not valid YAML; it holds characters"),
        ("markets: \ud800\n", "u.yaml: not valid YAML; it holds characters"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text, beginning):
    assert mistake(text).startswith(beginning)


@pytest.mark.parametrize("text", ["[" * 2000, "- " * 2000, "{a: " * 2000], ids=["flow", "block", "mapping"])
def test_a_file_nested_beyond_reason_is_refused(text):
    assert mistake(text).startswith("u.yaml")


@pytest.mark.parametrize(
    "text",
    ['"\\UFFFFFFFF"', '"\\U00110000"', "%YAML 1." + "1" * 5000 + "\n---\na: b\n"],
    ids=["escape beyond an int", "escape beyond Unicode", "version beyond an int"],
)
def test_numbers_that_yaml_cannot_hold_are_refused(text):
    assert mistake(text).startswith("u.yaml")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing():
    assert parse("\ufeff" + GOOD.replace("\n", "\r\n")) == parse(GOOD)


def test_lines_are_counted_with_windows_line_ends_too():
    text = stocks("[A]", "yesterday").replace("\n", "\r\n")
    assert mistake(text).startswith("u.yaml, line 3: start 'yesterday'")


# --- What breaks the grammar

FLOW = "markets:\n  stocks: {start: 2024-01-02, symbols: [A]}\n"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        # the file
        ("[A, B]", 1, "the file is no mapping of `key: value`."),
        ("just words", 1, "the file is no mapping of `key: value`."),
        ("{}", 1, "`markets:` is missing."),
        ("\nmarket: {}\n", 2, "the file has an unknown key `market`; did you mean `markets`?"),
        ("zzz: 1", 1, "the file has an unknown key `zzz`; known are markets."),
        (FLOW + "extra: 1\n", 3, "the file has an unknown key `extra`; known are markets."),
        (FLOW + "markets: {}\n", 3, "the file names `markets` twice."),
        ("? [a]\n: b", 1, "the file has a key that is no plain word."),
        ("markets:\n", 1, "`markets` is no mapping of `key: value`."),
        ("markets: [stocks]", 1, "`markets` is no mapping of `key: value`."),
        ("markets: {}", 1, "`markets` is empty; name at least one market."),
        # a market
        ("markets:\n  ? {a: b}\n  : c\n", 2, "`markets` has a key that is no plain word."),
        (FLOW + "  stocks: {}\n", 3, "`markets` names `stocks` twice."),
        ("markets:\n  Stocks: {}\n", 2, "market name 'Stocks' may hold a-z, 0-9 and _, and begins with a letter."),
        ("markets:\n  1st: {}\n", 2, "market name '1st' may hold a-z, 0-9 and _, and begins with a letter."),
        ("markets:\n  us-stocks: {}\n", 2, "market name 'us-stocks' may hold"),
        ("markets:\n  '': {}\n", 2, "market name '' may hold"),
        (f"markets:\n  {'a' * 31}: {{}}\n", 2, f"market name '{'a' * 31}' may hold"),
        ("markets:\n  stocks:\n", 2, "market stocks is no mapping of `key: value`."),
        ("markets:\n  stocks: []\n", 2, "market stocks is no mapping of `key: value`."),
        (
            "markets:\n  stocks:\n    strat: 2024-01-02\n",
            3,
            "market stocks has an unknown key `strat`; did you mean `start`?",
        ),
        (
            "markets:\n  stocks:\n    qqq: 1\n",
            3,
            "market stocks has an unknown key `qqq`; known are kind, start, symbols,",
        ),
        ("markets:\n  stocks:\n    start: 1\n    start: 2\n", 4, "market stocks names `start` twice."),
        ("markets:\n  stocks:\n    symbols: [A]\n", 3, "market stocks has no `start`."),
        ("markets:\n  stocks:\n    start: 2024-01-02\n", 3, "market stocks has no `symbols`."),
        # kind
        (
            "markets:\n  etfs:\n    start: 2024-01-02\n    symbols: [A]\n",
            2,
            "market etfs needs a `kind`: one of stocks, crypto.",
        ),
        ("markets:\n  stocks:\n    kind: bonds\n", 3, "kind 'bonds' is unknown: one of stocks, crypto."),
        ("markets:\n  stocks:\n    kind: STOCKS\n", 3, "kind 'STOCKS' is unknown: one of stocks, crypto."),
        ("markets:\n  stocks:\n    kind:\n", 3, "kind is no plain word."),
        ("markets:\n  stocks:\n    kind: [stocks]\n", 3, "kind is no plain word."),
        # start
        (stocks("[A]", ""), 3, "start is no plain word."),
        (stocks("[A]", "[2024-01-02]"), 3, "start is no plain word."),
        (stocks("[A]", "yesterday"), 3, "start 'yesterday' is not a date like 2024-01-02."),
        (stocks("[A]", "2024-02-30"), 3, "start '2024-02-30' is not a date like 2024-01-02."),
        (stocks("[A]", "2024-1-2"), 3, "start '2024-1-2' is not a date like 2024-01-02."),
        (stocks("[A]", "20240102"), 3, "start '20240102' is not a date like 2024-01-02."),
        (stocks("[A]", "02.01.2024"), 3, "start '02.01.2024' is not a date like 2024-01-02."),
        (stocks("[A]", "2024-01-02T00:00:00"), 3, "start '2024-01-02T00:00:00' is not a date like 2024-01-02."),
        (stocks("[A]", "2024"), 3, "start '2024' is not a date like 2024-01-02."),
        (stocks("[A]", "२०२४-०१-०२"), 3, "start '२०२४-०१-०२' is not a date like 2024-01-02."),
        (stocks("[A]", "1969-12-31"), 3, "start 1969-12-31 lies before 1970-01-01."),
        (stocks("[A]", "2025-06-03"), 3, "start 2025-06-03 lies in the future."),
        # symbols
        (stocks(""), 4, "`symbols` is not a list like [A, B]."),
        (stocks("AAPL"), 4, "`symbols` is not a list like [A, B]."),
        (stocks("{A: B}"), 4, "`symbols` is not a list like [A, B]."),
        (stocks("[]"), 4, "`symbols` is empty."),
        (stocks("\n      - A\n      -\n"), 6, "a symbol is no plain word."),
        (stocks("\n      - A\n      - [B]\n"), 6, "a symbol is no plain word."),
        (stocks("\n      - A\n      - ''\n"), 6, "a symbol is no plain word."),
        (
            stocks("\n      - A\n      - B C\n"),
            6,
            "symbol 'B C' may hold letters, digits, '.' and '-', 20 at the most.",
        ),
        (stocks("[A|B]"), 4, "symbol 'A|B' may hold"),
        (stocks("['A,B']"), 4, "symbol 'A,B' may hold"),
        (stocks("[~]"), 4, "symbol '~' may hold"),
        (stocks("[.A]"), 4, "symbol '.A' may hold"),
        (stocks("[AÄ]"), 4, "symbol 'AÄ' may hold"),
        (stocks("['A\n\n      B']"), 4, "symbol 'A\\nB' may hold"),
        (stocks(f"[{'A' * 21}]"), 4, f"symbol '{'A' * 21}' may hold"),
        (stocks("\n      - A\n      - B\n      - A\n"), 7, "symbol A stands twice."),
        (stocks("[A, {symbol: A, ticker: AA}]"), 4, "symbol A stands twice."),
        (
            FLOW + "  more: {kind: stocks, start: 2024-01-02, symbols: [A]}\n",
            3,
            "symbol A stands in stocks and in more; give one another name: {symbol: …, ticker: …}.",
        ),
        # a symbol with its ticker
        (stocks("[{ticker: A}]"), 4, "an entry of `symbols` has no `symbol`."),
        (stocks("[{}]"), 4, "an entry of `symbols` has no `symbol`."),
        (stocks("[{symbol: A, tickr: B}]"), 4, "a symbol has an unknown key `tickr`; did you mean `ticker`?"),
        (stocks("[{symbol: A, symbol: B}]"), 4, "a symbol names `symbol` twice."),
        (stocks("[{symbol: [A]}]"), 4, "symbol is no plain word."),
        (stocks("[{symbol: A, ticker: }]"), 4, "ticker is no plain word."),
        (stocks("[{symbol: A, ticker: 'A B'}]"), 4, "ticker 'A B' is no vendor ticker (like AAPL, BRK.B or X:BTCUSD)."),
        (stocks("[{symbol: A, ticker: 'A/B'}]"), 4, "ticker 'A/B' is no vendor ticker"),
        (stocks("[{symbol: A, ticker: 'Z:A'}]"), 4, "ticker 'Z:A' is no vendor ticker"),
        (stocks("[{symbol: A, ticker: '../v3'}]"), 4, "ticker '../v3' is no vendor ticker"),
        (
            stocks("[{symbol: A, ticker: 'X:BTCUSD'}]"),
            4,
            "ticker 'X:BTCUSD' does not belong to a market of kind stocks",
        ),
        (
            "markets:\n  crypto:\n    start: 2024-01-02\n    symbols:\n      - {symbol: BTC, ticker: BTC}\n",
            5,
            "ticker 'BTC' does not belong to a market of kind crypto: only crypto begins with X:.",
        ),
        # timeframes
        (stocks("[A]", "2024-01-02", "timeframes: 1m"), 5, "`timeframes` is not a list like [A, B]."),
        (stocks("[A]", "2024-01-02", "timeframes:"), 5, "`timeframes` is not a list like [A, B]."),
        (stocks("[A]", "2024-01-02", "timeframes: []"), 5, "`timeframes` is empty."),
        (stocks("[A]", "2024-01-02", "timeframes:", "  - 1m", "  - 7m"), 7, "timeframe '7m' is unknown: one of "),
        (stocks("[A]", "2024-01-02", "timeframes:", "  - 1m", "  - 1m"), 7, "timeframe 1m stands twice."),
        (stocks("[A]", "2024-01-02", "timeframes: [[1m]]"), 5, "a timeframe is no plain word."),
        # extra closures
        (closures(""), 5, "`extra_closures` is not a list like [2025-01-09]."),
        (closures("2025-01-09"), 5, "`extra_closures` is not a list like [2025-01-09]."),
        (closures("{2025-01-09: mourning}"), 5, "`extra_closures` is not a list like [2025-01-09]."),
        (closures("[]"), 5, "`extra_closures` is empty."),
        (closures("\n      - 2025-01-09\n      -\n"), 7, "extra closure is no plain word."),
        (closures("\n      - 2025-01-09\n      - [2025-01-10]\n"), 7, "extra closure is no plain word."),
        (closures("\n      - 2025-01-09\n      - soon\n"), 7, "extra closure 'soon' is not a date like 2024-01-02."),
        (closures("[2025-02-29]"), 5, "extra closure '2025-02-29' is not a date like 2024-01-02."),
        (closures("[20250109]"), 5, "extra closure '20250109' is not a date like 2024-01-02."),
        (closures("[2025-01-09 00:00]"), 5, "extra closure '2025-01-09 00:00' is not a date like 2024-01-02."),
        (closures("\n      - 2025-01-09\n      - 2025-01-09\n"), 7, "extra closure 2025-01-09 stands twice."),
        (closures("[2024-01-01]"), 5, "extra closure 2024-01-01 lies before the market's start 2024-01-02."),
        (closures("[1969-12-31]"), 5, "extra closure 1969-12-31 lies before the market's start 2024-01-02."),
        (closures("[2025-01-11]"), 5, "extra closure 2025-01-11 is a Saturday, on which stocks do not trade anyway."),
        (closures("[2027-01-10]"), 5, "extra closure 2027-01-10 is a Sunday, on which stocks do not trade anyway."),
        (
            stocks("[A]", "2024-01-02", "extra_closure: [2025-01-09]"),
            5,
            "market stocks has an unknown key `extra_closure`; did you mean `extra_closures`?",
        ),
    ],
)
def test_every_mistake_is_one_sentence_with_its_line(text, line, sentence):
    assert mistake(text).startswith(f"u.yaml, line {line}: {sentence}")


def test_a_week_date_is_no_day():
    assert mistake(stocks("[A]", "2024-W01-1")).startswith("u.yaml, line 3: start '2024-W01-1' is not a date")


def test_a_symbol_that_dagster_allows_in_no_partition_key_is_refused():
    assert mistake(stocks("[A...B]")).startswith("u.yaml, line 4: symbol 'A...B'")


@pytest.mark.parametrize("text", ['"a\\nb": 1\n', 'markets: {"a\\nb": 1, "a\\nb": 2}\n'], ids=["unknown", "doubled"])
def test_a_key_with_a_line_end_is_told_on_one_line(text):
    assert mistake(text).startswith("u.yaml, line 1: ")


# --- Whatever else is written


def check(text):
    try:
        universe = parse(text)
    except UniverseMistake:
        return
    symbols = [s.name for m in universe.markets for s in m.symbols]
    assert len(symbols) == len(set(symbols)) > 0
    for market in universe.markets:
        assert market.symbols
        assert market.timeframes
        assert date(1970, 1, 1) <= market.start <= TODAY
        assert market.closures == tuple(sorted(set(market.closures)))
        assert all(day >= market.start for day in market.closures)
        assert all(s.ticker.startswith("X:") == (market.kind is Kind.CRYPTO) for s in market.symbols)
        assert not any(re.search(r"[|,\[\]\s]", s.name) for s in market.symbols)


@given(st.text())
def test_any_text_is_a_universe_or_a_mistake(text):
    check(text)


TOKENS = st.sampled_from(
    [
        *("markets", "stocks", "crypto", "kind", "start", "symbols", "timeframes", "symbol", "ticker", "<<"),
        *("extra_closures", "2025-01-09", "2025-01-11"),
        *("A", "BTC", "X:BTCUSD", "2024-01-02", "1m", "1d", "ON", "null", "~", "''", "1E5"),
        *(
            ": ",
            "\n",
            "\n  ",
            "\n    ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "? ",
            "&a ",
            "*a ",
            "!!int ",
            "|",
            ">",
            "---\n",
        ),
        *("...\n", "%YAML 1.1\n", "#", "\t", "'", '"', "@", "\r", "\x85", "\u2028", "\ufeff"),
    ]
)


@given(st.lists(TOKENS, max_size=25).map("".join))
def test_any_row_of_yaml_tokens_is_a_universe_or_a_mistake(text):
    check(text)


@given(st.integers(0, len(CLOSED)), st.integers(0, 20), TOKENS | st.text(max_size=3))
def test_a_good_file_with_a_piece_exchanged_is_a_universe_or_a_mistake(at, cut, piece):
    check(CLOSED[:at] + piece + CLOSED[at + cut :])


@pytest.mark.parametrize("derived", ["5m", "1h", "4h"])
def test_what_is_made_from_minutes_needs_them(derived):
    text = f"markets: {{stocks: {{start: 2024-01-02, symbols: [A], timeframes: [{derived}, 1d]}}}}"
    with pytest.raises(UniverseMistake, match=rf"line 1: timeframe {derived} is made from 1m: add 1m\."):
        parse(text)


def test_weeks_need_days():
    with pytest.raises(UniverseMistake, match=r"timeframe 1w is made from 1d: add 1d\."):
        parse("markets: {stocks: {start: 2024-01-02, symbols: [A], timeframes: [1m, 1w]}}")
