"""Send messages over the network: what arrives, the reason if nothing does, and that no address is leaked."""

import logging
import subprocess
import sys
from urllib.parse import quote

import pytest

from backfill_assets.adapters import notify
from backfill_assets.adapters.notify import channel_names, channels
from backfill_assets.domain.alert_messages import Message
from backfill_assets.domain.alerts import Severity
from backfill_assets_tests.receivers import PASSWORD, TOKEN, mail_server, webhook
from backfill_assets_tests.support import NASTY_SHOWN, unused_port

BODY = """stocks: AAPL misses 9 sessions.

symbol  missing     sessions
AAPL    2025-06-02  9
BRK.B   2025-06-03  1
.
<b> & so on"""
MESSAGE = Message("CRITICAL: gap:stocks", BODY, Severity.CRITICAL)


def only(*urls):
    (channel,) = channels(urls)
    return channel


def test_a_webhook_is_given_subject_text_and_how_bad_it_is():
    with webhook() as hook:
        assert only(hook.url).send(MESSAGE) is None
        assert only(hook.url).send(Message("RECOVERED: gap:stocks", "Over.", None)) is None
    first, second = hook.received
    assert (first["title"], first["message"], first["type"]) == (MESSAGE.title, BODY, "failure")
    assert second["type"] == "success"


def test_a_mail_is_plain_text_with_its_columns_under_each_other():
    with mail_server() as mail:
        assert only(mail.url).send(MESSAGE) is None
    (received,) = mail.received
    assert received["Subject"] == MESSAGE.title
    assert "me@example.org" in received["To"]
    parts = [part for part in received.walk() if not part.is_multipart()]
    assert [part.get_content_type() for part in parts] == ["text/plain"]
    assert parts[0].get_content().replace("\r\n", "\n").rstrip("\n") == BODY


@pytest.mark.parametrize("service", ["json", "ntfy", "mmost", "mailto"])
def test_text_of_the_vendor_notifies_nobody_and_is_no_link(service):
    with webhook() as hook, mail_server() as mail:
        address = {"json": hook.url, "mailto": f"{mail.url}&format=html"}.get(
            service, f"{service}://127.0.0.1:{hook.port}/{'t' * 24}"
        )
        assert only(address).send(Message(f"WARNING: {NASTY_SHOWN}", f"{NASTY_SHOWN}.", Severity.WARNING)) is None
        html = [
            part.get_content() for mail in mail.received for part in mail.walk() if "html" in part.get_content_type()
        ]
        titles = [str(mail["Subject"]) for mail in mail.received]
        texts = [*html, *(value for body in hook.received for value in body.values() if "script" in str(value))]
    assert texts
    assert "@channel" not in "".join(titles + texts)
    assert "@\u200bchannel" in texts[0]
    assert service != "mmost" or ("\\[l\\](http" in texts[0] and "\\<script>" in texts[0])
    assert not html or "&lt;script&gt;" in html[0]


def refusal(url):
    result = only(url).send(MESSAGE)
    assert result is not None
    assert result.endswith(".")
    return result


def test_what_is_not_accepted_says_why_in_words_of_our_own():
    with webhook() as hook:
        hook.status = 503
        assert refusal(hook.url) == "it answered 503."
        hook.silent = True
        assert refusal(hook.url) == "no connection, or the login was refused."
    with mail_server() as mail:
        mail.password = "another"  # noqa: S105  # nobody's
        assert refusal(mail.url) == "no connection, or the login was refused."
        assert mail.received == []
    assert refusal(f"json://127.0.0.1:{unused_port()}/") == "no connection, or the login was refused."
    assert refusal(f"json://127.0.0.1:{unused_port()}/?optional=yes") == "no connection, or the login was refused."
    assert refusal("nonsense://x") == "apprise cannot use this address."


def test_a_message_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(notify, "SEND_SECONDS", 0.2)
    with webhook() as hook:
        hook.silent = True
        assert refusal(hook.url.replace("0.5", "5")) == "no answer within 0.2 s."


def test_channels_are_called_by_scheme_and_numbered_within_it():
    assert channel_names(["mailto://a", "json://b", "JSON://c", "slack://d", "json://e"]) == [
        "mailto",
        "json",
        "json 2",
        "slack",
        "json 3",
    ]
    assert channel_names([]) == channels([]) == []


def test_an_address_that_cannot_be_used_keeps_no_other_from_being_served():
    with webhook() as hook:
        found = channels(["nonsense://x", hook.url, "json://"])
        assert [c.send(MESSAGE) is None for c in found] == [False, True, False]
        assert len(hook.received) == 1


def test_an_address_with_commas_is_one_channel():
    with mail_server() as mail:
        channel = only(mail.url.replace("to=me@example.org", "to=me@example.org,you@example.org"))
        assert channel.send(MESSAGE) is None
    assert {address for m in mail.received for address in (m["To"] or "").split(", ")} == {
        "me@example.org",
        "you@example.org",
    }


SECRETS = (PASSWORD, TOKEN, quote(PASSWORD))

PROGRAM = """
import logging, sys
logging.basicConfig(level=1, stream=sys.stdout)
from backfill_assets.adapters.notify import channels
from backfill_assets.domain.alert_messages import Message
for channel in channels(sys.argv[1:]):
    print(channel, channel.send(Message("t", "b", None)))
"""


def test_no_log_output_name_or_answer_tells_an_address():
    """In a process of its own, whose log takes everything from everybody."""
    with webhook() as good, webhook() as bad, mail_server() as mail, mail_server() as closed:
        bad.status, closed.password = 500, "another"
        nobody = f"jsons://user:{PASSWORD}@127.0.0.1:{unused_port()}/{TOKEN}?+X-Key={TOKEN}"
        broken = f"slack://{TOKEN}/{PASSWORD}"
        urls = [good.url, bad.url, mail.url, closed.url, nobody, broken]
        result = subprocess.run([sys.executable, "-c", PROGRAM, *urls], capture_output=True, text=True, check=True)
        assert (len(good.received), len(mail.received)) == (1, 1)
    out = result.stdout + result.stderr
    assert out.count("Channel(name=") == 6
    for secret in SECRETS:
        assert secret not in out
    assert "127.0.0.1" not in out


@pytest.mark.parametrize("name", ["urllib3", "oauthlib"])
def test_a_library_that_tells_addresses_at_debug_is_kept_from_it(name):
    log = logging.getLogger(name)
    before = log.level
    try:
        log.setLevel(logging.DEBUG)
        channels([])
        assert not log.isEnabledFor(logging.DEBUG)
        log.setLevel(logging.ERROR)
        channels([])
        assert log.level == logging.ERROR
    finally:
        log.setLevel(before)
