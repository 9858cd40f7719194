"""A vendor whose texts hold escape sequences, marks that turn text round, markup and mentions: what commands show."""

from datetime import date

import pytest

from backfill_assets.simulator import Dividend, Fault
from backfill_assets_tests.integration.cli.test_features import WEEK
from backfill_assets_tests.secrets_search import find_secrets
from backfill_assets_tests.support import NASTY, NASTY_SHOWN

RAW = {"a sequence": NASTY[1:11], "bidi": NASTY[NASTY.index("\u202e") :][:6]}


@pytest.fixture
def hostile(backfill):
    backfill.vendor.change(
        faults=(
            Fault(kind="status", path="/v2/", ticker="AAPL", status=400, text=NASTY),
            Fault(kind="status", path="/v2/", ticker="MSFT", status=403, text=f"{NASTY} is not in your plan"),
            Fault(kind="error_in_200", path="/v2/", ticker="X:BTCUSD", text=f"{NASTY} API key"),
        ),
        dividends=(Dividend(ticker="AAPL", ex_dividend_date=date(2024, 3, 5), cash_amount=0.5, currency=NASTY),),
    )
    return backfill


def test_texts_of_the_vendor_are_shown_as_plain_text(hostile, tmp_path):
    html = tmp_path / "page.html"
    hostile("events", "--symbols", "AAPL")
    for command in (["run", *WEEK], ["run", "--json", *WEEK]):
        hostile(*command)
    shown = hostile.results[1].out + hostile.results[1].err
    assert NASTY_SHOWN in " ".join(shown.split())
    for command in (
        "gaps",
        "status",
        f"status --html {html}",
        "report --last",
        "features",
        "alerts",
        "events",
        "repair",
    ):
        hostile(*command.split())
    for result in hostile.results:
        assert (result.out + result.err).replace("\n", "").isprintable()
        assert "Traceback" not in result.out + result.err
    texts = {str(n): result.out + result.err for n, result in enumerate(hostile.results)} | {"html": html.read_text()}
    assert "<script>x" not in texts["html"]
    assert not find_secrets(RAW, database_url=hostile.database_url, folders=[hostile.data], texts=texts)
    assert hostile.rows("select kind, currency from corporate_events where kind = 'dividend'") == [("dividend", None)]
