"""Local servers that receive alerts: a webhook, and a mail server that requires a login."""

from __future__ import annotations

import base64
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASSWORD = "S3cretMailWord"  # noqa: S105  # not a real one
TOKEN = "t0kenOfTheHook"  # noqa: S105  # not a real one


@dataclass
class Webhook:
    """A JSON webhook (`json://`). It answers with `status`, or never if `silent`; after `down` it refuses connections."""

    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    silent: bool = False
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """The address for ALERT_URLS: a secret in the path, timeouts of half a second."""
        return f"json://127.0.0.1:{self.port}/{TOKEN}?cto=0.5&rto=0.5"

    @property
    def titles(self) -> list[str]:
        """The titles of the received messages, in order."""
        return [message["title"] for message in self.received]

    def up(self) -> None:
        """Listen, on the previous port if there was one."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the base class's name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.silent:
                    hook._closing.wait(20)
                    return
                if hook.status < 300:
                    hook.received.append(body)
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the server's log out of the test's output."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Stop listening."""
        if self._server:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self._closing = threading.Event()


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run a webhook."""
    hook = Webhook()
    hook.up()
    try:
        yield hook
    finally:
        hook.down()


@dataclass
class MailServer:
    """An SMTP server without encryption that accepts mail from the user `reader`."""

    port: int = 0
    received: list[EmailMessage] = field(default_factory=list)
    password: str = PASSWORD

    @property
    def url(self) -> str:
        """The address for ALERT_URLS."""
        return (
            f"mailto://reader:{PASSWORD}@127.0.0.1:{self.port}?to=me@example.org&from=alerts@example.org&mode=insecure"
        )


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a mail server."""
    mail = MailServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 mail.example.org ESMTP")
            allowed = False
            while line := self.rfile.readline():
                word, _, rest = line.decode().strip().partition(" ")
                match word.upper():
                    case "EHLO":
                        self._say("250-mail.example.org", "250 AUTH PLAIN")
                    case "AUTH":
                        login = base64.b64decode(rest.removeprefix("PLAIN ")).split(b"\0")
                        allowed = login[1:] == [b"reader", mail.password.encode()]
                        self._say("235 Welcome" if allowed else "535 5.7.8 Authentication failed")
                    case "MAIL" | "RCPT":
                        self._say("250 OK" if allowed else "530 5.7.0 Authentication required")
                    case "DATA":
                        self._say("354 Start mail input")
                        mail.received.append(self._message())
                        self._say("250 OK")
                    case "QUIT":
                        self._say("221 Bye")
                        return
                    case _:
                        self._say("250 OK")

        def _say(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

        def _message(self) -> EmailMessage:
            lines = list(iter(self.rfile.readline, b".\r\n"))
            unstuffed = b"".join(line[1:] if line.startswith(b"..") else line for line in lines)
            return message_from_bytes(unstuffed, policy=policy.default)  # type: ignore[return-value]  # by that policy

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        mail.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield mail
        finally:
            server.shutdown()
