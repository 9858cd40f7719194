"""`backfill symbols`: the universe file is edited with its comments kept, and rows are deleted only on request."""

import json

import psycopg
import pytest

from backfill_assets.adapters.store import schema

UNIVERSE = """# kept
markets:
  stocks:
    start: 2024-03-04  # kept too
    symbols:
      - AAPL  # the first
      - MSFT
  crypto:
    start: 2024-03-08
    symbols: [BTC, ETH]
"""
RECORDS = {"backfill_run_series", "backfill_run_gaps", "backfill_run_restatements", "backfill_run_rejected"}


@pytest.fixture
def universe(tmp_path, monkeypatch):
    path = tmp_path / "my universe.yaml"
    path.write_text(UNIVERSE, encoding="utf-8")
    path.chmod(0o640)
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(path))
    return path


def test_added_and_removed_symbols_are_in_the_file_and_nothing_else_changes(backfill, universe):
    added = backfill("symbols", "add", "NVDA", "BRK.B", "--market", "stocks")
    assert (added.code, added.err) == (0, "")
    assert added.out.splitlines()[-1] == "  backfill run --symbols NVDA,BRK.B"
    assert backfill("symbols", "add", "BTCEUR", "--market", "crypto", "--ticker", "X:BTCEUR").code == 0
    text = universe.read_text(encoding="utf-8")
    assert text == UNIVERSE.replace("      - MSFT\n", "      - MSFT\n      - NVDA\n      - BRK.B\n").replace(
        "[BTC, ETH]", "[BTC, ETH, {symbol: BTCEUR, ticker: X:BTCEUR}]"
    )
    assert universe.stat().st_mode & 0o777 == 0o640
    listed = {row["symbol"]: (row["market"], row["ticker"], row["bars"]) for row in symbols(backfill)}
    assert listed["BTCEUR"] == ("crypto", "X:BTCEUR", 0)
    assert backfill("symbols", "remove", "NVDA", "BRK.B", "BTCEUR").code == 0
    assert universe.read_text(encoding="utf-8") == UNIVERSE


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("add", "NVDA"), "--market is missing: give one of stocks, crypto."),
        (("add", "NVDA", "--market", "bonds"), "Market 'bonds' is not in the universe; there are stocks, crypto."),
        (("add", "aapl", "--market", "stocks"), "repeats aapl."),
        (("add", "A|B", "--market", "stocks"), "must be up to 20 letters"),
        (("add", "A", "B", "--ticker", "C", "--market", "stocks"), "--ticker needs exactly one symbol"),
        (("remove", "NVDA"), "Symbol 'NVDA' is not in the universe."),
        (("remove", "NVDA", "--purge"), "Symbol 'NVDA' is not in the universe, and no bar of it is stored."),
        (("remove", "BTC", "ETH"), "crypto has no other symbols: remove the market"),
        (("remove", "AAPL", "--purge"), "Confirm with --yes."),
        (("add",), "Missing argument"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(backfill, universe, arguments, sentence):
    result = backfill("symbols", *arguments)
    assert (result.code, result.out) == (2, "")
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert universe.read_text(encoding="utf-8") == UNIVERSE


def test_a_file_that_cannot_be_written_is_one_sentence(backfill, universe):
    universe.with_name(f".{universe.name}.part").mkdir()  # where the new file would be prepared
    result = backfill("symbols", "remove", "MSFT")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "cannot be written" in result.err
    assert universe.read_text(encoding="utf-8") == UNIVERSE


@pytest.mark.usefixtures("universe")
def test_purged_rows_are_gone_from_every_table_but_the_records_of_runs(backfill):
    days = ("--start", "2024-03-04", "--end", "2024-03-08")
    assert backfill("run", "--symbols", "AAPL,MSFT", "--features", *days).code == 0
    with psycopg.connect(backfill.database_url) as connection:
        tables = {
            name
            for (name,) in connection.execute(
                "select c.table_name from information_schema.columns c join information_schema.tables t using (table_name)"
                " where c.column_name = 'symbol' and t.table_type = 'BASE TABLE' and c.table_schema = 'public'"
            )
        }
    others = {t: rows(backfill, t, "MSFT") for t in tables}
    removed = backfill("symbols", "remove", "AAPL")
    assert (removed.code, removed.out.splitlines()[-1]) == (0, "Stored bars are kept; --purge deletes them.")
    bars = next(row["bars"] for row in symbols(backfill) if row["symbol"] == "AAPL")
    assert bars == rows(backfill, "market_data", "AAPL") > 0
    purged = backfill("symbols", "remove", "AAPL", "--purge", "--yes")
    assert (purged.code, purged.out) == (0, f"Deleted {bars:,} bars.\n")
    assert {t for t in tables if rows(backfill, t, "AAPL")} <= RECORDS
    assert {t: rows(backfill, t, "MSFT") for t in tables} == others
    assert tables >= RECORDS | {"market_data", "market_features", "coverage"}, schema.NEEDED


def symbols(backfill):
    return json.loads(backfill("symbols", "list", "--json").out)


def rows(backfill, table, symbol):
    query = f"select count(*) from {table} where symbol = %s"  # noqa: S608  # a name from the catalog
    return backfill.rows(query, symbol)[0][0]
