"""The page is self-contained, valid and escaped; a browser that shows it fetches nothing else."""

import re
from dataclasses import replace
from html.parser import HTMLParser

from backfill_assets.domain.gaps import Reason, merge_timeframes
from backfill_assets.presentation import page as module
from backfill_assets.presentation.page import page
from backfill_assets_tests.unit.presentation.examples import DUE, complete_market, gap, incomplete_market

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Parses a page strictly: every element must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open, "only SVG has self-closing elements"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def rows(self):
        return [tag for tag, _ in self.elements].count("tr")


def test_an_attempt_that_is_due_is_shown_as_now():
    found, shown = incomplete_market(), "2025-07-01 12:04"
    assert shown in page([found])
    due = page([replace(found, at=DUE)])
    assert "<td>now</td>" in due
    assert f"<td>{shown}</td>" not in due


def test_it_is_valid_and_refers_to_nothing_else():
    text = page([incomplete_market(), complete_market()])
    assert text.startswith("<!doctype html>\n")
    read = Reader(text)
    assert not re.search(r"https?:|//", text)
    assert not re.search(r"@import|url\(|expression\(", text)
    references = {v for _, attrs in read.elements for k, v in attrs.items() if k in {"src", "href", "srcset", "action"}}
    assert references == {"data:,"}
    assert not {tag for tag, _ in read.elements} & {"script", "iframe", "object", "embed", "form", "img"}


def test_it_shows_the_calendar_the_symbols_and_the_gaps_of_each_market():
    read = Reader(page([incomplete_market(), complete_market()]))
    tags = [tag for tag, _ in read.elements]
    assert (tags.count("svg"), tags.count("h2"), tags.count("table")) == (2 + 2 * 5, 2, 3)  # a picture and its legend
    assert read.rows() == (1 + 4) + (1 + 3) + (1 + 2)
    text = " ".join(read.texts)
    assert "99.6% complete; 3 missing, 1 partial, 1 explained of 1,309 sessions" in text
    for part in ("backfill repair --symbols AAPL", "1m 5m 15m 30m 1h 4h", "vendor_empty", "2025-07-01 12:04"):
        assert part in text
    assert "Nothing is missing." in text
    assert "As of 2025-07-01 12:00 UTC." in text


def test_texts_are_escaped():
    special = "<i>\"&'"
    found = replace(incomplete_market(symbols=(special, "B", "C", "D")), market=special)
    text = page([found])
    assert "<i>" not in text
    assert text.count("&lt;i&gt;&quot;&amp;&#x27;") >= 4
    assert special in Reader(text).texts


def test_gaps_of_several_timeframes_are_one_row_and_unexplained_ones_come_first():
    sessions = incomplete_market().sessions
    gaps = [
        gap("AAPL", "1m", sessions[:1], Reason.VENDOR_EMPTY, explained=True),
        *(gap("MSFT", t, sessions[3:5]) for t in ("1m", "5m")),
        gap("MSFT", "1d", sessions[3:4]),
    ]
    merged = [(g.symbol, g.sessions, timeframes) for g, timeframes in merge_timeframes(gaps)]
    assert merged == [("MSFT", 1, ["1d"]), ("MSFT", 2, ["1m", "5m"]), ("AAPL", 1, ["1m"])]


def test_a_long_list_of_gaps_ends_with_the_command_that_lists_all(monkeypatch):
    monkeypatch.setattr(module, "MAX_GAPS", 2)
    read = Reader(page([incomplete_market()]))
    assert read.rows() == (1 + 4) + (1 + 2)
    assert "… and 1 more: see " in read.texts


def test_a_market_before_its_first_session():
    found = complete_market()
    text = page([replace(found, sessions=(), rows=tuple(replace(r, states=r.states[:0]) for r in found.rows))])
    assert "no finished session yet: 100% complete of 0 sessions." in text
    Reader(text)
