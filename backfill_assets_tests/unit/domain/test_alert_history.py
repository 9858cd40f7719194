"""The turns of an incident: each is told once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.alert_history import Incident, News, Telling, Told, Turn, turns
from backfill_assets.domain.alerts import Finding, Severity

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAILY = Telling(timedelta(hours=24), listeners=True)
DEAF = replace(DAILY, listeners=False)
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def finding(level=WARNING, *, name="gap:stocks", reminds=True):
    return Finding(name, level, f"It is {level.word}.", reminds=reminds)


def incident(level=WARNING, *, told=WARNING, ago=HOUR, name="gap:stocks"):
    return Incident(1, finding(level, name=name), NOW - ago, Told(told, NOW - ago) if told else None)


def news(known, found, telling=DAILY, now=NOW):
    (turn,) = turns([known] if known else [], {"gap:stocks": found}, telling, now)
    return turn.news


def test_what_is_found_first_is_told():
    assert turns([], {"gap:stocks": finding()}, DAILY, NOW) == [Turn(None, finding(), News.OPENED)]


def test_what_was_well_and_is_well_is_no_turn():
    assert turns([], {"gap:stocks": None}, DAILY, NOW) == []


def test_what_lasts_is_told_again_after_its_time_only():
    assert news(incident(ago=23 * HOUR), finding()) is None
    assert news(incident(ago=24 * HOUR), finding()) is News.REMINDED
    assert news(incident(ago=100 * HOUR), finding(reminds=False)) is None


def test_what_grows_worse_is_told_at_once_and_what_grows_better_is_not():
    assert news(incident(), finding(CRITICAL)) is News.WORSENED
    assert news(incident(CRITICAL, told=CRITICAL), finding(WARNING)) is None
    assert news(incident(WARNING, told=CRITICAL), finding(CRITICAL)) is None  # as bad as was told
    assert news(incident(CRITICAL, told=CRITICAL, ago=25 * HOUR), finding(WARNING)) is News.REMINDED


def test_what_is_over_is_told():
    assert news(incident(), None) is News.RECOVERED


def test_without_listeners_nothing_is_told_and_with_them_what_was_not():
    assert news(None, finding(), DEAF) is None
    assert news(incident(told=None), finding(), DEAF) is None
    assert news(incident(told=None), finding()) is News.OPENED
    assert news(incident(told=None), finding(CRITICAL)) is News.OPENED
    assert news(incident(told=None), None) is None


def test_what_was_not_looked_at_stays_and_what_is_not_watched_any_more_ends():
    known = [incident(name="gap:old"), incident(name="run:x")]
    assert turns(known, {}, DAILY, NOW) == []
    (turn,) = turns(known, {}, DAILY, NOW, gone=lambda n: n == "gap:old")
    assert turn == Turn(known[0], None, News.RECOVERED, gone=True)
    assert turns(known, {"gap:old": finding(name="gap:old")}, DAILY, NOW, gone=lambda _: True)[0].finding


LEVELS = st.lists(st.sampled_from([None, WARNING, CRITICAL]), max_size=40)


@given(LEVELS, st.sampled_from([timedelta(minutes=1), 7 * HOUR]))
def test_every_incident_opens_worsens_and_recovers_once_a_transition(levels, step):
    """The tables' part is played by hand: a looked-at thing at a time, the state carried on."""
    known, told, now = None, [], NOW
    for level in levels:
        now += step
        found = finding(level) if level else None
        for turn in turns([known] if known else [], {"gap:stocks": found}, DAILY, now):
            if turn.news:
                told.append((turn.news, level, now))
            if turn.finding is None:
                known = None
            else:
                opened = known.opened_at if known else now
                said = Told(turn.finding.severity, now) if turn.news else known and known.told
                known = Incident(1, turn.finding, opened, said)

    open_since, heard, last = None, None, None
    for what, level, at in told:
        if what is News.OPENED:
            assert open_since is None
            open_since, heard = at, level
        elif what is News.RECOVERED:
            assert open_since is not None
            open_since = heard = None
        elif what is News.WORSENED:
            assert level > heard
            heard = level
        else:
            assert at - last >= DAILY.repeat
            heard = level
        last = at
    assert (open_since is None) == (known is None)
    runs = sum(level is not None and (i == 0 or levels[i - 1] is None) for i, level in enumerate(levels))
    assert sum(what is News.OPENED for what, _, _ in told) == runs
    if known:  # nobody believes it to be better than it is
        assert heard >= known.finding.severity
