"""The options that several commands share. Loaded for `backfill --help` too: no heavy imports belong here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from backfill_assets.domain.selection import Selection

MAX_CONCURRENT = 50


class Names(tuple[str, ...]):
    """Names, each once."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Names:
        """Split a comma-separated list. Raises typer.BadParameter."""
        names = [name.strip() for name in text.split(",")]
        if not all(names):
            raise typer.BadParameter(f"{text!r} is not a list like A,B.")
        return cls(dict.fromkeys(names))


def parse_day(text: str) -> date:
    """Parse an ISO date. Raises typer.BadParameter: Typer's own message for a datetime shows a strptime format."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date like 2025-01-31.") from None


def _use_demo(context: typer.Context, value: bool) -> bool:  # noqa: FBT001  # Typer calls it so
    if value:
        from backfill_assets.cli.demo import demo_profile  # noqa: PLC0415  # loads the simulator

        context.with_resource(demo_profile())
    return value


class _PlainFlags:
    """A command whose help shows no type behind its flags."""

    def get_params(self, context: Any) -> list[Any]:
        """Return all parameters."""
        parameters: list[Any] = super().get_params(context)  # type: ignore[misc]  # of the class beside this one
        for parameter in parameters:
            if getattr(parameter, "is_bool_flag", False):
                parameter.metavar = ""
        return parameters


class Command(_PlainFlags, TyperCommand):
    """A command."""


class Group(_PlainFlags, TyperGroup):
    """A group of commands."""


Symbols = Annotated[Names | None, typer.Option(parser=Names.parse, metavar="A,B", help="Only these symbols: AAPL,BTC.")]
Markets = Annotated[
    Names | None, typer.Option(parser=Names.parse, metavar="A,B", help="Only these markets: stocks,crypto.")
]
Timeframes = Annotated[
    Names | None, typer.Option(parser=Names.parse, metavar="A,B", help="Only these timeframes: 1m,1h,1d.")
]
Days = Annotated[int | None, typer.Option(min=1, max=36_525, metavar="N", help="Only the last N calendar days.")]
Start = Annotated[
    date | None,
    typer.Option(parser=parse_day, metavar="DAY", help="First day: 2025-01-31. Default: the market's first."),
]
End = Annotated[
    date | None, typer.Option(parser=parse_day, metavar="DAY", help="Last day, inclusive. Default: the last finished.")
]
MaxConcurrent = Annotated[
    int, typer.Option(min=1, max=MAX_CONCURRENT, metavar="N", help="Symbols to work on at the same time.")
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON, and nothing else, to standard output.")]

Host = Annotated[
    str, typer.Option(metavar="IP", help="Address to listen on; if other machines can reach it, a proxy is needed.")
]
BehindProxy = Annotated[
    bool,
    typer.Option("--i-have-a-proxy", help="A proxy with a login is in front: the pages have no login of their own."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="List every request.")]
Demo = Annotated[
    bool,
    typer.Option("--demo", callback=_use_demo, help="Work on the demo's data and its simulator."),
]


@dataclass(frozen=True, slots=True)
class Options(Selection):
    """What a command is to work on, and how."""

    max_concurrent: int = 3
    quiet: bool = False
