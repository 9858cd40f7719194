"""The changes of an incident: each is notified once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.alert_history import Change, Incident, Notice, Notification, NotificationPolicy, changes
from backfill_assets.domain.alerts import Finding, Severity

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAILY = NotificationPolicy(timedelta(hours=24), has_channels=True)
NO_CHANNELS = replace(DAILY, has_channels=False)
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def finding(level=WARNING, *, name="gap:stocks", reminds=True):
    return Finding(name, level, f"It is {level.word}.", reminds=reminds)


def incident(level=WARNING, *, notified=WARNING, ago=HOUR, name="gap:stocks"):
    return Incident(1, finding(level, name=name), NOW - ago, Notification(notified, NOW - ago) if notified else None)


def notice(known, found, policy=DAILY, now=NOW):
    (change,) = changes([known] if known else [], {"gap:stocks": found}, policy, now)
    return change.notice


def test_a_new_finding_is_notified():
    assert changes([], {"gap:stocks": finding()}, DAILY, NOW) == [Change(None, finding(), Notice.OPENED)]


def test_without_finding_and_incident_nothing_changes():
    assert changes([], {"gap:stocks": None}, DAILY, NOW) == []


def test_an_incident_that_lasts_is_repeated_after_the_interval_only():
    assert notice(incident(ago=23 * HOUR), finding()) is None
    assert notice(incident(ago=24 * HOUR), finding()) is Notice.REMINDED
    assert notice(incident(ago=100 * HOUR), finding(reminds=False)) is None


def test_worsening_is_notified_at_once_and_improvement_is_not():
    assert notice(incident(), finding(CRITICAL)) is Notice.WORSENED
    assert notice(incident(CRITICAL, notified=CRITICAL), finding(WARNING)) is None
    assert notice(incident(WARNING, notified=CRITICAL), finding(CRITICAL)) is None  # as severe as was notified
    assert notice(incident(CRITICAL, notified=CRITICAL, ago=25 * HOUR), finding(WARNING)) is Notice.REMINDED


def test_recovery_is_notified():
    assert notice(incident(), None) is Notice.RECOVERED


def test_without_channels_nothing_is_notified_and_with_them_what_was_not():
    assert notice(None, finding(), NO_CHANNELS) is None
    assert notice(incident(notified=None), finding(), NO_CHANNELS) is None
    assert notice(incident(notified=None), finding()) is Notice.OPENED
    assert notice(incident(notified=None), finding(CRITICAL)) is Notice.OPENED
    assert notice(incident(notified=None), None) is None


def test_what_was_not_examined_stays_and_what_is_no_longer_watched_ends():
    known = [incident(name="gap:old"), incident(name="run:x")]
    assert changes(known, {}, DAILY, NOW) == []
    (change,) = changes(known, {}, DAILY, NOW, removed=lambda n: n == "gap:old")
    assert change == Change(known[0], None, Notice.RECOVERED, removed=True)
    assert changes(known, {"gap:old": finding(name="gap:old")}, DAILY, NOW, removed=lambda _: True)[0].finding


LEVELS = st.lists(st.sampled_from([None, WARNING, CRITICAL]), max_size=40)


@given(LEVELS, st.sampled_from([timedelta(minutes=1), 7 * HOUR]))
def test_every_incident_opens_worsens_and_recovers_once_a_transition(levels, step):
    """One incident, its state carried over from step to step as the tables do."""
    known, sent, now = None, [], NOW
    for level in levels:
        now += step
        found = finding(level) if level else None
        for change in changes([known] if known else [], {"gap:stocks": found}, DAILY, now):
            if change.notice:
                sent.append((change.notice, level, now))
            if change.finding is None:
                known = None
            else:
                opened = known.opened_at if known else now
                notified = Notification(change.finding.severity, now) if change.notice else known and known.notified
                known = Incident(1, change.finding, opened, notified)

    open_since, heard, last = None, None, None
    for what, level, at in sent:
        if what is Notice.OPENED:
            assert open_since is None
            open_since, heard = at, level
        elif what is Notice.RECOVERED:
            assert open_since is not None
            open_since = heard = None
        elif what is Notice.WORSENED:
            assert level > heard
            heard = level
        else:
            assert at - last >= DAILY.repeat
            heard = level
        last = at
    assert (open_since is None) == (known is None)
    runs = sum(level is not None and (i == 0 or levels[i - 1] is None) for i, level in enumerate(levels))
    assert sum(what is Notice.OPENED for what, _, _ in sent) == runs
    if known:  # the last notification was not too mild
        assert heard >= known.finding.severity
