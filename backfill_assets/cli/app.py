"""The program: its commands, and how errors become one sentence and an exit code."""

from __future__ import annotations

import os
import signal
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
alerts = typer.Typer(
    help="List the alerts that are open, and what could not be delivered. Exits 3 while there are any, or nobody looks."
)
app.add_typer(alerts, name="alerts")

INTERRUPTED = 130
"""What a shell calls a program that Ctrl-C ended: 128 + SIGINT."""


Symbols = Annotated[str | None, typer.Option(metavar="A,B", help="Only these symbols: AAPL,BTC.")]
Markets = Annotated[str | None, typer.Option(metavar="A,B", help="Only these markets: stocks,crypto.")]
Timeframes = Annotated[str | None, typer.Option(metavar="A,B", help="Only these timeframes: 1m,1h,1d.")]
Days = Annotated[str | None, typer.Option(metavar="N", help="The last N calendar days, up to the last finished one.")]
Start = Annotated[str | None, typer.Option(metavar="DAY", help="First day, 2025-01-31; by default the market's first.")]
End = Annotated[str | None, typer.Option(metavar="DAY", help="Last day, included; by default the last finished one.")]
MaxConcurrent = Annotated[str, typer.Option(metavar="N", help="Symbols that are fetched at a time.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output, and nothing else.")]


@app.command()
def run(  # noqa: PLR0913, PLR0917  # one parameter an option
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    max_concurrent: MaxConcurrent = "3",
    features: Annotated[
        bool, typer.Option("--features", help="Compute the features of the same range after it.")
    ] = False,
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
    raise typer.Exit(run_command(options, features=features, as_json=json))


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
def features(  # noqa: PLR0913, PLR0917  # one parameter an option
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    full: Annotated[bool, typer.Option("--full", help="Compute again what is up to date too.")] = False,
    max_concurrent: Annotated[str, typer.Option(metavar="N", help="Symbols that are worked on at a time.")] = "5",
    json: Json = False,
) -> None:
    """Compute the features that are missing or out of date, as a Dagster run; no request is sent.

    Exits 0 complete, 1 failed, 2 wrong usage, 3 where bars are missing that features are computed from.
    """
    from backfill_assets.cli.features import features_command  # noqa: PLC0415  # `backfill --help` need not load Dagster
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
    raise typer.Exit(features_command(options, full=full, as_json=json))


@app.command()
def status(
    symbols: Symbols = None,
    markets: Markets = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Also as one HTML page, into this file.")] = None,
    json: Json = False,
) -> None:
    """Show how complete each symbol is. Exits 3 while something is missing unexplained."""
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # `backfill --help` need not load drivers
    from backfill_assets.cli.status import status_command  # noqa: PLC0415  # the same

    raise typer.Exit(status_command(Options.parse(symbols=symbols, markets=markets), as_json=json, html=html))


@app.command()
def gaps(symbols: Symbols = None, markets: Markets = None, timeframes: Timeframes = None, json: Json = False) -> None:
    """List what is missing, why, and when it is asked for again. Exits 3 while something is missing unexplained."""
    from backfill_assets.cli.gaps import gaps_command  # noqa: PLC0415  # `backfill --help` need not load drivers
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # the same

    options = Options.parse(symbols=symbols, markets=markets, timeframes=timeframes)
    raise typer.Exit(gaps_command(options, as_json=json))


@app.command()
def repair(
    symbols: Symbols = None,
    markets: Markets = None,
    max_concurrent: MaxConcurrent = "3",
    explained: Annotated[
        bool, typer.Option("--explained", help="Also what was confirmed empty or is not in the vendor's plan.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be asked for.")] = False,
    json: Json = False,
) -> None:
    """Ask at once for everything that is missing. Exits 3 while something is missing unexplained."""
    from backfill_assets.cli.repair import repair_command  # noqa: PLC0415  # `backfill --help` need not load Dagster
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # the same

    options = Options.parse(symbols=symbols, markets=markets, max_concurrent=max_concurrent)
    raise typer.Exit(repair_command(options, explained=explained, dry_run=dry_run, as_json=json))


@app.command()
def events(symbols: Symbols = None, markets: Markets = None, json: Json = False) -> None:
    """Ask for splits and dividends of the stocks, as a Dagster run, and list them. Exits 0 done, 1 failed, 2 wrong usage."""
    from backfill_assets.cli.events import events_command  # noqa: PLC0415  # `backfill --help` need not load Dagster
    from backfill_assets.cli.selection import Options  # noqa: PLC0415  # the same

    raise typer.Exit(events_command(Options.parse(symbols=symbols, markets=markets), as_json=json))


@app.command()
def report(
    run: Annotated[str | None, typer.Option(metavar="ID", help="This run.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last run of each market, as without options.")] = False,
    since: Annotated[str | None, typer.Option(metavar="DAY", help="All runs since this day, UTC.")] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Into this file, instead of standard output.")
    ] = None,
) -> None:
    """Tell what runs did, as JSON: symbols, gaps, what became of them, totals."""
    from backfill_assets.cli.report import report_command  # noqa: PLC0415  # `backfill --help` need not load drivers

    if last and (run or since):
        raise UsageMistake("--last, --run and --since exclude each other: give one of them.")
    raise typer.Exit(report_command(run, since, output))


@app.command()
def up(
    port: Annotated[str, typer.Option(metavar="N", help="The port that Dagit listens on.")] = "3000",
    host: Annotated[
        str,
        typer.Option(
            metavar="IP", help="The address that Dagit listens on; other than this machine's own need a proxy."
        ),
    ] = "127.0.0.1",
    behind_proxy: Annotated[
        bool, typer.Option("--i-have-a-proxy", help="A proxy with a login stands before Dagit, which has none.")
    ] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Over the demo's data and the simulator.")] = False,
) -> None:
    """Start Dagit and Dagster's daemon; Ctrl-C stops both."""
    from backfill_assets.cli.address import Address  # noqa: PLC0415  # `backfill --help` need not load what commands need
    from backfill_assets.cli.up import up_command  # noqa: PLC0415  # the same

    raise typer.Exit(up_command(Address.parse(host, port, behind_proxy=behind_proxy), demo=demo))


@app.command()
def demo() -> None:
    """Fill a small universe from the simulator: no key, no server, nothing to set up."""
    from backfill_assets.cli.demo import demo_command  # noqa: PLC0415  # `backfill --help` need not load Dagster

    raise typer.Exit(demo_command())


@alerts.callback(invoke_without_command=True)
def alerts_open(context: typer.Context, json: Json = False) -> None:
    """List what is open where no other command of the group is named."""
    from backfill_assets.cli.alerts import alerts_command  # noqa: PLC0415  # `backfill --help` need not load Dagster

    if context.invoked_subcommand is None:
        raise typer.Exit(alerts_command(as_json=json))


@alerts.command("test")
def alerts_test() -> None:
    """Send a test message to every channel of ALERT_URLS. Exits 1 where one does not accept it."""
    from backfill_assets.cli.alerts import alerts_test_command  # noqa: PLC0415  # loads apprise

    raise typer.Exit(alerts_test_command())


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


@db.command("purge")
def db_purge(
    older_than: Annotated[str, typer.Option(metavar="DAYS", help="What is older than so many days: 90d.")] = "90d",
) -> None:
    """Take old entries out of Dagster's event log; what Dagit shows of assets and checks stays."""
    from backfill_assets.cli.db import purge_command  # noqa: PLC0415  # loads drivers

    purge_command(older_than)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong usage, 3 days are missing, 130 interrupted."""
    # Stop on SIGTERM as on Ctrl-C. SIGINT stays ignored where the shell started the command with it ignored, as in a script's
    # background job.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
        return _say("Stopped. What is stored stays; the same command goes on from there.", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(f"backfill: {sentence}\n")
    return code
