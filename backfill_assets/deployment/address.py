"""The address that the Dagster UI listens on."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Self

from backfill_assets.domain.errors import SettingMistake, UsageMistake


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of this machine and a TCP port."""

    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    @classmethod
    def parse(cls, host: str, port: int, *, behind_proxy: bool) -> Self:
        """Parse the options of the command line; `localhost` is 127.0.0.1.

        Raises UsageMistake for an invalid address, and for an address that other machines can reach unless a
        proxy is in front of it.
        """
        try:
            address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise UsageMistake(
                f"--host {host!r} is not an IP address: use 127.0.0.1, ::1, 0.0.0.0 or an address of this machine."
            ) from None
        if not (address.is_loopback or behind_proxy):
            raise UsageMistake(
                f"--host {host} is reachable from other machines, and the Dagster UI (Dagit) has no login: anyone who "
                "reaches it can launch and delete. Put a proxy with a login in front of it and add --i-have-a-proxy, or "
                "leave out --host."
            )
        return cls(address, port)

    @property
    def url(self) -> str:
        """The URL for a browser on this machine, without a trailing slash."""
        host = self.host
        if host.is_unspecified:
            host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")  # IPv4
        return f"http://{f'[{host}]' if host.version == 6 else host}:{self.port}"  # IPv6

    def require_free(self) -> None:
        """Raise SettingMistake if the address cannot be listened on, for instance because the port is in use."""
        with socket.socket(socket.AF_INET if self.host.version == 4 else socket.AF_INET6) as probe:  # IPv4
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((str(self.host), self.port))
            except OSError as error:
                raise SettingMistake(
                    f"Cannot listen on port {self.port} of {self.host}: {error.strerror}. "
                    "Choose another port with --port, or an address of this machine with --host."
                ) from None
