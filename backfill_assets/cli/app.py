"""The program: its commands, and how errors become one sentence and an exit code.

What lives here: options and their help. What does not: what the commands do.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from backfill_assets.domain.errors import BackfillError, UsageMistake

app = typer.Typer(
    name="backfill",
    help="A complete, checked OHLCV store in PostgreSQL, kept by Dagster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
db = typer.Typer(help="The database: its URL, the embedded server, the market tables' revision.", no_args_is_help=True)
app.add_typer(db, name="db")

INTERRUPTED = 130
"""What a shell calls a program that Ctrl-C ended: 128 + SIGINT."""


Symbols = Annotated[str | None, typer.Option(metavar="A,B", help="Only these symbols: AAPL,BTC.")]
Markets = Annotated[str | None, typer.Option(metavar="A,B", help="Only these markets: stocks,crypto.")]
Timeframes = Annotated[str | None, typer.Option(metavar="A,B", help="Only these timeframes: 1m,1h,1d.")]
Days = Annotated[str | None, typer.Option(metavar="N", help="The last N calendar days, up to the last finished one.")]
Start = Annotated[str | None, typer.Option(metavar="DAY", help="First day, 2025-01-31; by default the market's first.")]
End = Annotated[str | None, typer.Option(metavar="DAY", help="Last day, included; by default the last finished one.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output, and nothing else.")]


@app.command()
def run(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    max_concurrent: Annotated[str, typer.Option(metavar="N", help="Symbols that are fetched at a time.")] = "3",
    json: Json = False,
) -> None:
    """Fetch what is missing, as a Dagster run. Exits 0 complete, 1 failed, 2 wrong usage, 3 days are missing."""
    from backfill_assets.cli.run import run_command  # noqa: PLC0415  # `backfill --help` need not load Dagster
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # the same

    options = Options.parse(
        symbols=symbols,
        markets=markets,
        timeframes=timeframes,
        days=days,
        start=start,
        end=end,
        max_concurrent=max_concurrent,
    )
    raise typer.Exit(run_command(options, as_json=json))


@app.command()
def plan(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
) -> None:
    """Show what `run` would ask for, and how long that takes at the least. Nothing is fetched."""
    from backfill_assets.cli.plan import plan_command  # noqa: PLC0415  # `backfill --help` need not load drivers
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # the same

    options = Options.parse(symbols=symbols, markets=markets, timeframes=timeframes, days=days, start=start, end=end)
    raise typer.Exit(plan_command(options, as_json=json))


@app.command()
def up(
    port: Annotated[str, typer.Option(metavar="N", help="Where Dagit listens, on 127.0.0.1.")] = "3000",
    demo: Annotated[bool, typer.Option("--demo", help="Over the demo's data and the simulator.")] = False,
) -> None:
    """Start Dagit and Dagster's daemon; Ctrl-C stops both."""
    from backfill_assets.cli.up import up_command  # noqa: PLC0415  # `backfill --help` need not load Dagster

    raise typer.Exit(up_command(port, demo=demo))


@app.command()
def demo() -> None:
    """Fill a small universe from the simulator: no key, no server, nothing to set up."""
    from backfill_assets.cli.demo import demo_command  # noqa: PLC0415  # `backfill --help` need not load Dagster

    raise typer.Exit(demo_command())


@db.command("url")
def db_url() -> None:
    """Print the database's URL; the embedded server is started if need be."""
    from backfill_assets.cli.db import url_command  # noqa: PLC0415  # loads drivers

    url_command()


@db.command("start")
def db_start() -> None:
    """Start the embedded server, and bring its tables up to date."""
    from backfill_assets.cli.db import start_command  # noqa: PLC0415  # loads drivers

    start_command()


@db.command("stop")
def db_stop() -> None:
    """Stop the embedded server; the data stay."""
    from backfill_assets.cli.db import stop_command  # noqa: PLC0415  # loads drivers

    stop_command()


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the market tables to the revision that this code needs."""
    from backfill_assets.cli.db import upgrade_command  # noqa: PLC0415  # loads drivers

    upgrade_command()


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong usage, 3 days are missing, 130 interrupted."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, standalone_mode=False)
    except BackfillError as error:
        return _say(str(error), error.exit_code)
    except typer.TyperException as error:
        sentence = str(error).strip()
        if not sentence:  # the help was printed in its place
            return UsageMistake.exit_code
        return _say(f"{sentence.removesuffix('.')}. See `backfill --help`.", UsageMistake.exit_code)
    except BrokenPipeError:  # the reader of a pipe has gone: `backfill … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if code == INTERRUPTED:  # how typer tells of Ctrl-C
        return _say("Stopped. What was answered is stored; the same command goes on from there.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(f"backfill: {sentence}\n")
    return code
