"""`/api/v1/` over HTTP, against the OpenAPI file, the commands' `--json`, wrong requests, tokens, and no database."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import jsonschema
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.domain.api_tokens import ApiToken, Scope
from backfill_assets.web.api import PREFIX
from backfill_assets.web.parameters import openapi, resolved
from backfill_assets.web.platform import Cached
from backfill_assets_tests.integration.cli.test_status import LOST, THIN
from backfill_assets_tests.integration.web.conftest import serving
from backfill_assets_tests.support import PROJECT, SOAK

REPORT = json.loads((PROJECT / "docs" / "reference" / "report.schema.json").read_text(encoding="utf-8"))
OPERATIONS = [
    (path, method, operation) for path, found in openapi()["paths"].items() for method, operation in found.items()
]
FORMATS = jsonschema.FormatChecker()


def assert_valid(schema, document):
    """Validate a document by a schema of the OpenAPI document, or one that refers to it."""
    validator = jsonschema.Draft202012Validator(
        {**schema, "components": openapi()["components"]}, format_checker=FORMATS
    )
    validator.validate(document)


def checked(reply, operation):
    """Return the reply's document, which the OpenAPI document allows."""
    if reply.status_code == 304:
        assert reply.content == b""
        return None
    known = operation["responses"]
    content = resolved(known.get(str(reply.status_code), known["default"]))["content"]
    kind = reply.headers["content-type"]
    assert_valid(content[kind]["schema"], reply.json())
    assert reply.status_code == 200 or reply.json()["status"] == reply.status_code
    return reply.json()


def get(client, path, **options):
    """Get a page of the API; the reply is checked against the OpenAPI document."""
    place = path.partition("?")[0]
    (operation,) = [
        found
        for template, _, found in OPERATIONS
        if template == place or ("{" in template and place.startswith(template.partition("{")[0]))
    ]
    reply = client.get(PREFIX + path, **options)
    return reply, checked(reply, operation)


@pytest.fixture
def filled(backfilled_except):
    """Commands over a store with a gap and a thin session."""
    return backfilled_except(LOST, THIN)


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def test_the_answers_are_what_the_commands_print_as_json(filled):
    with serving() as client:
        for path, command in (
            ("/status", "status"),
            ("/status?symbols=BTC,AAPL", "status --symbols AAPL,BTC"),
            ("/status?symbols=MSFT", "status --symbols MSFT"),
            ("/status?markets=crypto", "status --markets crypto"),
            ("/gaps", "gaps"),
            ("/gaps?timeframes=1m,1d&symbols=AAPL", "gaps --timeframes 1m,1d --symbols AAPL"),
            ("/symbols", "symbols list"),
            ("/alerts", "alerts"),
            ("/runs", "report"),
        ):
            printed = json.loads(filled(*command.split(), "--json").out)
            reply, found = get(client, path)
            assert reply.status_code == 200
            if isinstance(found, dict):
                found, printed = (without(one, "as_of", "timestamp") for one in (found, printed))
            assert found == printed
        _, report = get(client, "/runs")
        jsonschema.validate(report, REPORT)
        for run in report["runs"]:
            _, one = get(client, f"/runs/{run['run_id']}")
            jsonschema.validate(one, REPORT)
            assert run in one["runs"]
        _, since = get(client, f"/runs?since={datetime.now(UTC).date() - timedelta(days=1)}")
        assert since["summary"]["runs"] >= len(report["runs"])
        _, symbol = get(client, "/symbols/AAPL")
        assert {gap["reason"] for gap in symbol["gaps"]} == {"missing"}
        assert [series["timeframe"] for series in symbol["series"]] == "1m 5m 15m 30m 1h 4h 1d 1w".split()
        assert get(client, "/schedules")[1] == []
        assert get(client, "/sources")[1][0]["key_is_set"]


@pytest.mark.usefixtures("filled")
def test_the_picture_has_the_state_of_every_session():
    with serving() as client:
        _, found = get(client, "/completeness?columns=5&markets=stocks")
        (stocks,) = found["markets"]
        assert (stocks["step"], [c["start"] for c in stocks["columns"]]) == (
            "session",
            [f"2024-03-{day:02}" for day in range(4, 9)],
        )
        assert stocks["symbols"][0] == {
            "symbol": "AAPL",
            "states": [
                {"first": 0, "last": 1, "state": "complete"},
                {"first": 2, "last": 3, "state": "missing"},
                {"first": 4, "last": 4, "state": "complete"},
            ],
        }
        assert get(client, "/completeness?columns=1")[1]["markets"][0]["step"] == "week"


def test_an_unchanged_document_is_not_sent_again(filled):
    with serving() as client:
        for path in ("/status", "/gaps", "/symbols/AAPL", "/runs", "/openapi.json"):
            reply, _ = get(client, path)
            for known in (reply.headers["etag"], f'"other", {reply.headers["etag"]}'):
                again, _ = get(client, path, headers={"if-none-match": known})
                assert (again.status_code, again.headers["etag"]) == (304, reply.headers["etag"])
        before, _ = get(client, "/symbols/AAPL")
    with psycopg.connect(filled.database_url) as connection:
        connection.execute("delete from market_data where symbol = 'AAPL' and timeframe = '1w'")
    with serving() as client:
        after, _ = get(client, "/symbols/AAPL", headers={"if-none-match": before.headers["etag"]})
        assert (after.status_code, after.headers["etag"] != before.headers["etag"]) == (200, True)


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/status?symbol=AAPL", 400, "There is no parameter 'symbol': there are symbols, markets."),
        ("/alerts?x=", 400, "There is no parameter 'x': there are none here."),
        ("/status?symbols=AAPL&symbols=MSFT", 400, "A parameter is given twice: separate several names by commas."),
        ("/status?symbols=APL", 400, "Symbol 'APL' is not in the universe; did you mean AAPL?"),
        ("/gaps?timeframes=2m", 400, "Timeframe '2m' is unknown: there are 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w."),
        ("/gaps?timeframes=", 400, "timeframes must be a list like A,B, not ''."),
        ("/completeness?columns=0", 400, "columns must be an integer from 1 to 4000, not '0'."),
        ("/runs?since=today", 400, "since must be a date like 2025-01-31, not 'today'."),
        ("/runs?since=2024-01-01", 400, "since must be a day of the last 31 days, not 2024-01-01."),
        ("/runs/x%00", 404, r"There is no run 'x\x00'."),
        ("/symbols/AAP", 404, "Symbol 'AAP' is not in the universe; did you mean AAPL?"),
    ],
)
def test_a_wrong_request_gets_one_sentence(client, path, status, sentence):
    reply, found = get(client, path)
    assert (reply.status_code, found["detail"]) == (status, sentence)


@pytest.mark.parametrize("path", ["/", "/nothing", "/status/", "/status/x"])
def test_what_is_not_there_is_a_problem_document_too(client, path):
    reply = client.get(PREFIX + path, follow_redirects=True)
    assert (reply.status_code, reply.headers["content-type"]) in {
        (404, "application/problem+json"),
        (200, "application/json"),  # a slash at the end leads to the page
    }
    assert client.delete(f"{PREFIX}/status").status_code == 405


TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["AAPL", "BTC", "1m", "stocks", "2024-03-04", "5", "\0", "a,b", "٣"])
)


@settings(max_examples=2000 if SOAK else 150, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(OPERATIONS),
    st.data(),
    st.lists(st.tuples(st.sampled_from(["symbols", "columns", "since", "x"]), TEXTS), max_size=2),
    st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=10),
)
def test_no_request_makes_the_server_fail(client, operation, data, more, header):
    path, method, found = operation
    for parameter in map(resolved, found.get("parameters", ())):
        if parameter["in"] == "path":
            text = data.draw(TEXTS.filter(lambda t: t not in {"", ".", ".."} and "/" not in t))
            path = path.replace(f"{{{parameter['name']}}}", quote(text, safe=""))
        elif data.draw(st.booleans()):
            more = [(parameter["name"], data.draw(TEXTS)), *more]
    reply = client.request(method, PREFIX + path, params=more, headers={"if-none-match": header.encode("latin-1")})
    assert reply.status_code < 500
    checked(reply, found)


def test_raw_bytes_in_a_query_string_are_refused_or_answered(client):
    for query in ("symbols=%ff%fe", "symbols=%", "%00=%00", "&&=&", "symbols", "columns=٣", "x" * 20_000):
        assert client.get(f"{PREFIX}/status?{query}").status_code in {200, 400, 414, 431}, query


def test_every_answer_needs_a_token_if_there_are_any(closed_markets, monkeypatch):
    printed = closed_markets("token", "new", "monitor").out.splitlines()
    text, entry = printed[0].rpartition(" ")[2], printed[2].strip()
    launch, other = ApiToken.new("script", Scope.LAUNCH)
    stranger, _ = ApiToken.new("monitor", Scope.LAUNCH)
    monkeypatch.setenv("BACKFILL_API_TOKENS", f"{entry}, {other}")
    with serving() as client:
        for headers, status in (
            ({}, 401),
            ({"authorization": f"Bearer {stranger}"}, 401),
            ({"authorization": f"Bearer {text[:-1]}"}, 401),
            ({"authorization": f"Basic {text}"}, 401),
            ({"authorization": "Bearer \xff"}, 401),
            ({"authorization": f"Bearer {text}"}, 200),
            ({"authorization": f"bearer {launch}"}, 200),
        ):
            raw = {name: value.encode("latin-1") for name, value in headers.items()}
            reply, document = get(client, "/symbols", headers=raw)
            assert reply.status_code == status
            assert text not in reply.text + str(document)
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("arguments", [["a b"], ["x" * 41], ["a:b"], ["a", "--scope", "write"]])
def test_a_token_that_no_setting_could_hold_is_not_made(bare_backfill, arguments):
    result = bare_backfill("token", "new", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.usefixtures("bare_backfill")
def test_without_a_database_each_answer_says_so_in_one_sentence_without_its_password():
    with serving() as client:
        for path in ("/status", "/gaps", "/runs", "/runs/x", "/alerts", "/schedules", "/symbols/AAPL"):
            reply, found = get(client, path)
            assert reply.status_code == 503
            assert found["detail"].startswith("PostgreSQL at 127.0.0.1:1/market cannot be used")
            assert "pa55word" not in reply.text
        assert get(client, "/sources")[0].status_code == 200


def test_the_document_names_what_is_served_and_its_schemas_are_valid(client):
    _, document = get(client, "/openapi.json")
    assert document["openapi"].startswith("3.1.")
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_what_takes_long_is_read_less_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reads = []

    def read():
        reads.append(now[0])
        now[0] += 2
        return len(reads)

    value = Cached(read, 3)
    for expected, at in ((1, 0), (1, 4), (1, 21.9), (2, 22)):
        now[0] = max(now[0], at)
        assert value() == expected
