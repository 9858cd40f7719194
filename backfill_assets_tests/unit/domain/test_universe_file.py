import re
from datetime import date
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.errors import UniverseMistake
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES
from backfill_assets.domain.universe import MOST_SYMBOLS, EarlierTicker, Market, Symbol, Universe
from backfill_assets.domain.universe_file import parse_universe, with_symbols, without_symbols

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


def names(text):
    return [s.name for s in parse(text).markets[0].symbols]


# --- Valid files


def test_markets_and_symbols_keep_the_order_of_the_file():
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


@pytest.mark.parametrize(
    ("name", "written", "kind", "symbol"),
    [
        ("stocks", "symbols: [A]", Kind.STOCKS, Symbol("A", "A")),
        ("crypto", "symbols: [A]", Kind.CRYPTO, Symbol("A", "X:AUSD")),
        ("stocks", "kind: crypto, symbols: [A]", Kind.CRYPTO, Symbol("A", "X:AUSD")),
        ("small", "kind: stocks, symbols: [A]", Kind.STOCKS, Symbol("A", "A")),
        (
            "crypto",
            "symbols: [{symbol: AAPL-COIN, ticker: 'X:AAPLUSD'}]",
            Kind.CRYPTO,
            Symbol("AAPL-COIN", "X:AAPLUSD"),
        ),
    ],
)
def test_a_market_is_of_its_kind_or_else_of_its_name(name, written, kind, symbol):
    first = "large: {kind: stocks, start: 2024-01-02, symbols: [AAPL]}"
    text = f"markets: {{{first}, {name}: {{start: 2024-01-03, {written}}}}}"
    (_, market) = parse(text).markets
    assert (market.kind, market.symbols) == (kind, (symbol,))


def test_earlier_tickers_are_requested_up_to_their_last_day():
    text = stocks("[{symbol: META, formerly: [{ticker: FB, until: 2022-06-08}]}]")
    (meta,) = parse(text).markets[0].symbols
    assert meta == Symbol("META", "META", (EarlierTicker("FB", date(2022, 6, 8)),))
    assert [meta.ticker_on(date(2022, 6, day)) for day in (8, 9)] == ["FB", "META"]
    assert meta.tickers == "FB until 2022-06-08, META"


@pytest.mark.parametrize(
    ("written", "built"),
    [("[1m]", (MINUTE_1,)), ("[1d]", (DAY_1,)), ("[1d, 1m]", (MINUTE_1, DAY_1))],
)
def test_timeframes_are_sorted_finest_first(written, built):
    assert parse(stocks("[A]", "2024-01-02", f"timeframes: {written}")).markets[0].timeframes == built


@pytest.mark.parametrize(
    ("kind", "written", "closures"),
    [
        ("stocks", "2026-12-24, 2024-01-02, '2025-01-09', 9999-12-31", "2024-01-02 2025-01-09 2026-12-24 9999-12-31"),
        ("stocks", "2024-12-25", "2024-12-25"),  # a holiday of the calendar
        ("crypto", "2024-03-09, 2024-03-10", "2024-03-09 2024-03-10"),  # a weekend
    ],
)
def test_extra_closures_are_sorted_and_may_be_in_the_future(kind, written, closures):
    text = f"markets: {{{kind}: {{start: 2024-01-02, symbols: [A], extra_closures: [{written}]}}}}"
    assert parse(text).markets[0].closures == tuple(map(date.fromisoformat, closures.split()))


@pytest.mark.parametrize("start", [f"{TODAY}", "1970-01-01", "'2024-01-02'"])
def test_a_market_may_start_today_and_as_early_as_1970(start):
    assert parse(stocks("[A]", start)).markets[0].start == date.fromisoformat(start.strip("'"))


def test_too_many_symbols_give_a_warning():
    def numbered(n):
        return parse(stocks(f"[{', '.join(f'S{i}' for i in range(n))}]"))

    assert numbered(MOST_SYMBOLS).warnings() == []
    (warning,) = numbered(MOST_SYMBOLS + 1).warnings()
    assert warning.startswith("Market stocks has 101 symbols:")
    assert "kind stocks" in warning
    assert len(numbered(5000).markets[0].symbols) == 5000


# --- YAML


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("ON, OFF, YES, NO, Y, N, TRUE, FALSE, NULL, 1E5, 007, 0x1F, 1.0, 12", None),
        ("""'ON', "NO", Y""", "ON, NO, Y"),
        ("!!int 7, !!python/name:os.system A", "7, A"),
        ("{symbol: AAPL}", "AAPL"),
    ],
)
def test_symbols_are_the_words_as_written_whatever_yaml_makes_of_them(written, words):
    assert names(stocks(f"[{written}]")) == (words or written).split(", ")


def test_aliases_are_resolved():
    text = (
        "markets:\n"
        "  stocks: {start: &day 2024-01-02, symbols: [A], timeframes: &tf [1d]}\n"
        "  crypto: {start: *day, symbols: [BTC], timeframes: *tf}\n"
    )
    first, second = parse(text).markets
    assert first.start == second.start
    assert first.timeframes == second.timeframes == (DAY_1,)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("", "u.yaml is empty; it needs `markets:`"),
        ("# nothing yet\n", "u.yaml is empty; it needs `markets:`"),
        ("---", "u.yaml, line 1: the file must be a mapping"),
        ("markets: {}\n---\nmarkets: {}\n", "u.yaml, line 2: not valid YAML (but found another document)"),
        ("markets:\n\tstocks:\n", "u.yaml, line 2: not valid YAML (found character '\\t'"),
        ("markets:\n  stocks: [\n", "u.yaml, line 3: not valid YAML"),
        ("markets:\n  stocks: *nothing\n", "u.yaml, line 2: not valid YAML (found undefined alias"),
        ("markets:\n  stocks: 'A\n", "u.yaml, line 3: not valid YAML"),
        ("markets: a: b\n", "u.yaml, line 1: not valid YAML"),
        ("markets:\n  stocks:\n start: 2024-01-02\n", "u.yaml, line 3: not valid YAML"),
        ("markets:\n  a\0b: 1\n", "u.yaml: not valid YAML; it contains characters"),
        ("markets:\n  \x07: 1\n", "u.yaml: not valid YAML; it contains characters"),
        ("markets: \ud800\n", "u.yaml: not valid YAML; it contains characters"),
        # a file that contains itself
        ("&a [*a]", "u.yaml, line "),
        ("markets: &a\n  stocks: *a\n", "u.yaml, line "),
        ("markets:\n  stocks: &a {start: *a, symbols: *a}", "u.yaml, line "),
        # nested too deeply, and numbers beyond Unicode or an int
        *((text, "u.yaml") for text in ("[" * 2000, "- " * 2000, "{a: " * 2000)),
        *((text, "u.yaml") for text in ('"\\UFFFFFFFF"', '"\\U00110000"', "%YAML 1." + "1" * 5000 + "\n---\na: b\n")),
    ],
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)
def test_invalid_yaml_is_reported_with_its_line(text, beginning):
    assert mistake(text).startswith(beginning)


def test_windows_line_ends_and_a_byte_order_mark_change_nothing():
    assert parse("\ufeff" + GOOD.replace("\n", "\r\n")) == parse(GOOD)


# --- Mistakes

DATE = "must be a date like 2024-01-02, not"
LIST = "must be a list like [A, B]."
SYMBOL = "must be up to 20 letters, digits, '.' and '-', not"
TICKER = "must be a ticker like AAPL, BRK.B or X:BTCUSD, not"
PREFIX = "must begin with X: in crypto and only there, not"
TIMEFRAME = "must be one of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, not"
MARKET = "must be a letter and up to 29 more of a-z, 0-9 and _, not"
CLOSURES = "extra_closures:\n      - 2025-01-09"
FLOW = "markets:\n  stocks: {start: 2024-01-02, symbols: [A]}\n"
ALIASED = "markets:\n  stocks: {start: 2024-01-02, symbols: &all [A]}"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        # the file
        ("[A, B]", 1, "the file must be a mapping of `key: value`."),
        ("just words", 1, "the file must be a mapping of `key: value`."),
        ("{}", 1, "markets is missing."),
        ("\nmarket: {}\n", 2, "market is an unknown key; did you mean `markets`?"),
        ("zzz: 1", 1, "zzz is an unknown key; known are markets, archives."),
        (FLOW + "extra: 1\n", 3, "extra is an unknown key; known are markets, archives."),
        (FLOW + "markets: {}\n", 3, "not valid YAML (found duplicate key 'markets')."),
        ("? [a]\n: b", 1, "not valid YAML (found unhashable key)."),
        ("markets:\n", 1, "markets must be a mapping of `key: value`."),
        ("markets: [stocks]", 1, "markets must be a mapping of `key: value`."),
        ("markets: {}", 1, "markets is empty."),
        # a market
        ("markets:\n  ? {a: b}\n  : c\n", 2, "not valid YAML (found unhashable key)."),
        (FLOW + "  stocks: {}\n", 3, "not valid YAML (found duplicate key 'stocks')."),
        *(
            (f"markets:\n  {name}: {{}}\n", 2, f"markets.{name} {MARKET} '{name[:12]}")
            for name in ("Stocks", "1st", "us-stocks", "a" * 31)
        ),
        ("markets:\n  '': {}\n", 2, f"markets.'' {MARKET} ''."),
        ("markets:\n  stocks:\n", 2, "markets.stocks must be a mapping of `key: value`."),
        ("markets:\n  stocks: []\n", 2, "markets.stocks must be a mapping of `key: value`."),
        (
            "markets:\n  stocks:\n    strat: 2024-01-02\n",
            3,
            "markets.stocks.strat is an unknown key; did you mean `start`?",
        ),
        (
            "markets:\n  stocks:\n    qqq: 1\n",
            3,
            "markets.stocks.qqq is an unknown key; known are kind, start, timeframes, extra_closures, symbols,",
        ),
        ("markets:\n  stocks:\n    start: 1\n    start: 2\n", 4, "not valid YAML (found duplicate key 'start')."),
        ("markets:\n  stocks:\n    symbols: [A]\n", 2, "markets.stocks.start is missing."),
        ("markets:\n  stocks:\n    start: 2024-01-02\n", 2, "markets.stocks.symbols is missing."),
        (
            "markets:\n  etfs:\n    start: 2024-01-02\n    symbols: [A]\n",
            2,
            "markets.etfs.kind must be one of stocks, crypto.",
        ),
        *(
            (f"markets:\n  stocks:\n    kind: {kind}\n", 3, "markets.stocks.kind must be one of stocks, crypto.")
            for kind in ("bonds", "STOCKS", "", "[stocks]")
        ),
        (
            FLOW + "  more: {kind: stocks, start: 2024-01-02, symbols: [A]}\n",
            3,
            "markets.more.symbols.0 repeats A (in stocks); use another name: {symbol: …, ticker: …}.",
        ),
        (
            "markets:\n  crypto:\n    start: 2024-01-02\n    symbols:\n      - {symbol: BTC, ticker: BTC}\n",
            5,
            f"markets.crypto.symbols.0.ticker {PREFIX} 'BTC'.",
        ),
        (
            f"{ALIASED}\n  more: {{kind: stocks, start: 2024-01-02, symbols: *all}}\n",
            2,
            "markets.more.symbols.0 repeats A",
        ),
        (FLOW + "  more:\n    <<: {start: 2024-01-02}\n", 4, "markets.more.'<<' is an unknown key"),
        (stocks("[A]", "yesterday").replace("\n", "\r\n"), 3, f"markets.stocks.start {DATE} 'yesterday'"),
        (stocks("[{symbol: A, symbol: B}]"), 4, "not valid YAML (found duplicate key 'symbol')."),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(text, line, sentence):
    assert mistake(text).startswith(f"u.yaml, line {line}: {sentence}")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("", f"{DATE} ''."),
        ("[2024-01-02]", f"{DATE} ['2024-01-02']."),
        *(
            (text, f"{DATE} {text!r}.")
            for text in ("yesterday", "2024-02-30", "2024-1-2", "20240102", "02.01.2024", "2024-01-02T00:00:00", "2024")
        ),
        ("२०२४-०१-०२", f"{DATE} '२०२४-०१-०२'."),
        ("2024-W01-1", f"{DATE} '2024-W01-1'."),
        ("1969-12-31", "must be from 1970-01-01 to today, not 1969-12-31."),
        ("2025-06-03", "must be from 1970-01-01 to today, not 2025-06-03."),
    ],
)
def test_a_mistake_in_a_start_is_one_sentence(start, reason):
    assert mistake(stocks("[A]", start)).startswith(f"u.yaml, line 3: markets.stocks.start {reason}")


@pytest.mark.parametrize(
    ("symbols", "line", "sentence"),
    [
        ("", 4, f" {LIST}"),
        ("AAPL", 4, f" {LIST}"),
        ("{A: B}", 4, f" {LIST}"),
        ("[]", 4, " is empty."),
        ("\n      - A\n      -\n", 6, f".1.symbol {SYMBOL} ''."),
        ("\n      - A\n      - [B]\n", 6, ".1 must be a mapping of `key: value`."),
        ("\n      - A\n      - ''\n", 6, f".1.symbol {SYMBOL} ''."),
        ("\n      - A\n      - B C\n", 6, f".1.symbol {SYMBOL} 'B C'."),
        ("['A,B']", 4, f".0.symbol {SYMBOL} 'A,B'."),
        *((f"[{text}]", 4, f".0.symbol {SYMBOL} '{text}'.") for text in ("A|B", "~", ".A", "AÄ", "A" * 21)),
        ("[A...B]", 4, f".0.symbol {SYMBOL} 'A...B'."),  # Dagster rejects it as a partition key
        ("['A\n\n      B']", 4, f".0.symbol {SYMBOL} 'A\\nB'."),
        ("\n      - A\n      - B\n      - A\n", 7, ".2 repeats A."),
        ("[A, {symbol: A, ticker: AA}]", 4, ".1 repeats A."),
        ("[{ticker: A}]", 4, ".0.symbol is missing."),
        ("[{}]", 4, ".0.symbol is missing."),
        ("[{symbol: A, tickr: B}]", 4, ".0.tickr is an unknown key; did you mean `ticker`?"),
        ("[{symbol: [A]}]", 4, ".0.symbol must be a single word."),
        ("[{symbol: A, ticker: }]", 4, f".0.ticker {TICKER} ''."),
        *(
            (f"[{{symbol: A, ticker: '{text}'}}]", 4, f".0.ticker {TICKER} '{text}'.")
            for text in ("A B", "A/B", "Z:A", "../v3")
        ),
        ("[{symbol: A, ticker: 'X:BTCUSD'}]", 4, f".0.ticker {PREFIX} 'X:BTCUSD'."),
        ("[{symbol: A, formerly: B}]", 4, f".0.formerly {LIST}"),
        ("[{symbol: A, formerly: []}]", 4, ".0.formerly is empty."),
        ("[{symbol: A, formerly: [B]}]", 4, ".0.formerly.0 must be a mapping of `key: value`."),
        ("[{symbol: A, formerly: [{ticker: B}]}]", 4, ".0.formerly.0.until is missing."),
        (
            "[{symbol: A, formerly: [{ticker: B, untl: 1}]}]",
            4,
            ".0.formerly.0.untl is an unknown key; did you mean `until`?",
        ),
        ("[{symbol: A, formerly: [{ticker: B, until: 2022}]}]", 4, f".0.formerly.0.until {DATE} '2022'."),
        (
            "[{symbol: A, formerly: [{ticker: B, until: 2022-06-08},\n      {ticker: C, until: 2022-06-07}]}]",
            5,
            ".0.formerly.1.until must be after 2022-06-08, not 2022-06-07.",
        ),
        (
            f"[{{symbol: A, formerly: [{{ticker: B, until: {TODAY}}}]}}]",
            4,
            f".0.formerly.0.until must be before today, not {TODAY}.",
        ),
        (
            "[{symbol: A, formerly: [{ticker: 'X:AUSD', until: 2022-06-08}]}]",
            4,
            f".0.formerly.0.ticker {PREFIX} 'X:AUSD'.",
        ),
    ],
)
def test_a_mistake_in_a_symbol_is_one_sentence_with_its_line(symbols, line, sentence):
    assert mistake(stocks(symbols)).startswith(f"u.yaml, line {line}: markets.stocks.symbols{sentence}")


@pytest.mark.parametrize(
    ("more", "line", "sentence"),
    [
        (["timeframes: 1m"], 5, f"timeframes {LIST}"),
        (["timeframes:"], 5, f"timeframes {LIST}"),
        (["timeframes: []"], 5, "timeframes is empty."),
        (["timeframes:", "  - 1m", "  - 7m"], 7, f"timeframes.1 {TIMEFRAME} '7m'."),
        (["timeframes:", "  - 1m", "  - 1m"], 7, "timeframes.1 repeats 1m."),
        (["timeframes: [[1m]]"], 5, f"timeframes.0 {TIMEFRAME} ['1m']."),
        *(
            ([f"timeframes: [{name}, 1d]"], 5, f"timeframes.0 needs 1m, from which {name} is derived: add it.")
            for name in ("5m", "1h", "4h")
        ),
        (["timeframes: [1m, 1w]"], 5, "timeframes.1 needs 1d, from which 1w is derived: add it."),
        (["sources: yahoo"], 5, f"sources {LIST}"),
        (["sources: []"], 5, "sources is empty."),
        (
            ["sources: [stooq]"],
            5,
            "sources.0 must be one of polygon, polygon_files, yahoo, alpaca, binance_us, not 'stooq'.",
        ),
        (["sources: [polygon, polygon]"], 5, "sources.1 repeats polygon."),
        (["sources: [yahoo]"], 5, "sources.0 must come after polygon or polygon_files: yahoo is a fallback."),
        (["sources: [yahoo, polygon]"], 5, "sources.0 must come after polygon or polygon_files"),
        (["sources: [polygon, yahoo, polygon_files]"], 5, "sources.2 must come before the fallbacks."),
        (
            ["sources: [polygon, binance_us]"],
            5,
            "sources.1 has bars of crypto only, and this market is of stocks.",
        ),
        (["witness: binance_us"], 5, "witness has bars of crypto only, and this market is of stocks."),
        (["witness: polygon"], 5, "witness must be one of yahoo, alpaca, binance_us, not 'polygon'."),
        (["witness: [yahoo]"], 5, "witness must be one of yahoo, alpaca, binance_us, not ['yahoo']."),
        (["extra_closures: "], 5, f"extra_closures {LIST}"),
        (["extra_closures: 2025-01-09"], 5, f"extra_closures {LIST}"),
        (["extra_closures: {2025-01-09: mourning}"], 5, f"extra_closures {LIST}"),
        (["extra_closures: []"], 5, "extra_closures is empty."),
        ([CLOSURES, "  -"], 7, f"extra_closures.1 {DATE} ''."),
        ([CLOSURES, "  - [2025-01-10]"], 7, f"extra_closures.1 {DATE} ['2025-01-10']."),
        ([CLOSURES, "  - soon"], 7, f"extra_closures.1 {DATE} 'soon'."),
        ([CLOSURES, "  - 2025-01-09"], 7, "extra_closures.1 repeats 2025-01-09."),
        *(
            ([f"extra_closures: [{day}]"], 5, f"extra_closures.0 {DATE} '{day}'.")
            for day in ("2025-02-29", "20250109", "2025-01-09 00:00")
        ),
        *(
            (
                [f"extra_closures: [{day}]"],
                5,
                f"extra_closures.0 must not be before the start 2024-01-02, as {day} is.",
            )
            for day in ("2024-01-01", "1969-12-31")
        ),
        *(
            ([f"extra_closures: [{day[:10]}]"], 5, f"extra_closures.0 is {day}, when stocks are never traded.")
            for day in ("2025-01-11, a Saturday", "2027-01-10, a Sunday")
        ),
        (["extra_closure: [2025-01-09]"], 5, "extra_closure is an unknown key; did you mean `extra_closures`?"),
    ],
)
def test_a_mistake_in_timeframes_or_closures_is_one_sentence_with_its_line(more, line, sentence):
    assert mistake(stocks("[A]", "2024-01-02", *more)).startswith(f"u.yaml, line {line}: markets.stocks.{sentence}")


@pytest.mark.parametrize("text", ['"a\\nb": 1\n', 'markets: {"a\\nb": 1, "a\\nb": 2}\n'], ids=["unknown", "doubled"])
def test_a_key_with_a_line_break_is_reported_on_one_line(text):
    assert mistake(text).startswith("u.yaml, line 1: ")


# --- Arbitrary text


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
        *(": ", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", "),
        *("? ", "&a ", "*a ", "!!int ", "|", ">", "---\n"),
        *("...\n", "%YAML 1.1\n", "#", "\t", "'", '"', "@", "\r", "\x85", "\u2028", "\ufeff"),
    ]
)


@given(st.lists(TOKENS, max_size=25).map("".join))
def test_any_sequence_of_yaml_tokens_is_a_universe_or_a_mistake(text):
    check(text)


@given(st.integers(0, len(CLOSED)), st.integers(0, 20), TOKENS | st.text(max_size=3))
def test_a_valid_file_with_a_part_replaced_is_a_universe_or_a_mistake(at, cut, piece):
    check(CLOSED[:at] + piece + CLOSED[at + cut :])


# --- Editing


@given(
    st.lists(st.sampled_from(["NVDA", "ON", "1234", "BRK-A", "NULL", "5e3"]), unique=True, min_size=1),
    st.sampled_from(
        [
            GOOD,
            CLOSED,
            f"# comment\n{GOOD}  # another\n",
            GOOD.replace("[AAPL, BRK.B]", "\n    - AAPL # x\n    - 'BRK.B'"),
        ]
    ),
)
def test_added_symbols_are_read_back_and_removed_again(added, text):
    symbols = [Symbol(name, name) for name in added]
    longer = with_symbols(text, "stocks", [*symbols, Symbol("OTHER", "NAME")])
    before, after = parse(text), parse(longer)
    assert after.markets[0].symbols == (*before.markets[0].symbols, *symbols, Symbol("OTHER", "NAME"))
    assert after.markets[1:] == before.markets[1:]
    assert re.findall("#.*", longer) == re.findall("#.*", text)
    shorter = without_symbols(longer, [*added, "OTHER"])
    assert parse(shorter) == before
    assert re.findall("#.*", shorter) == re.findall("#.*", text)
