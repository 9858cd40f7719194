"""Where Dagit listens: on this machine alone, unless a person says that something in front of it asks who comes."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

from backfill_assets.domain.errors import SettingMistake, UsageMistake

_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of this machine and a TCP port."""

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @classmethod
    def parse(cls, host: str, port: str, *, behind_proxy: bool) -> Self:
        """As on the command line; `localhost` is 127.0.0.1.

        Raises UsageMistake for what is no address or no port, and for an address that other machines can reach where
        nothing is `behind_proxy`.
        """
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise UsageMistake(
                f"--host {host!r} is no IP address: 127.0.0.1, ::1, 0.0.0.0 or one of this machine."
            ) from None
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= _HIGHEST_PORT):
            raise UsageMistake(f"--port {port!r} is not a whole number from 1 to {_HIGHEST_PORT}.")
        if not (address.is_loopback or behind_proxy):
            raise UsageMistake(
                f"--host {host} lets other machines in, and Dagit has no login: whoever reaches it can launch and delete. "
                "Put a proxy with a login in front and say so by --i-have-a-proxy, or leave --host out."
            )
        return cls(address, int(port))

    @property
    def url(self) -> str:
        """What a browser on this machine opens, without a slash at the end."""
        host = self.host
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")  # IP's version
        return f"http://{f'[{host}]' if isinstance(host, ipaddress.IPv6Address) else host}:{self.port}"

    def require_free(self) -> None:
        """Raise SettingMistake where somebody listens there already, or where the address is not this machine's."""
        family = socket.AF_INET6 if isinstance(self.host, ipaddress.IPv6Address) else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((str(self.host), self.port))
            except OSError as error:
                raise SettingMistake(_why_not(self, error)) from None


def _why_not(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {address.port} on {address.host} is taken: give another one by --port."
    if error.errno == errno.EACCES:
        return (
            f"Port {address.port} on {address.host} is for the administrator alone: give one of 1024 or more by --port."
        )
    return f"Dagit cannot listen on {address.host} ({error.strerror}): give an address of this machine by --host."
