"""The commands and their options. A command imports its module when it is called, so that `--help` is quick."""

from __future__ import annotations

import gc
import signal
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Annotated

import typer

from backfill_assets import __version__
from backfill_assets.cli.options import (
    BehindProxy,
    Command,
    Days,
    Demo,
    End,
    Group,
    Host,
    Json,
    Markets,
    MaxConcurrent,
    Names,
    Options,
    Quiet,
    Start,
    Symbols,
    Timeframes,
    Verbose,
    parse_day,
)
from backfill_assets.cli.streams import open_standard_streams
from backfill_assets.domain.errors import BackfillError, UsageMistake

app = typer.Typer(
    name="backfill",
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
db = typer.Typer(
    cls=Group, help="Manage the database: its URL, the embedded server, the market tables.", no_args_is_help=True
)
app.add_typer(db, name="db")
symbols_group = typer.Typer(
    cls=Group, help="List, add and remove the symbols of the universe file.", no_args_is_help=True
)
app.add_typer(symbols_group, name="symbols")
archive = typer.Typer(
    cls=Group, help="Keep the bars of every ticker of a market in files, and check them.", no_args_is_help=True
)
app.add_typer(archive, name="archive")
token = typer.Typer(cls=Group, help="Make tokens for the API.", no_args_is_help=True)
app.add_typer(token, name="token")
alerts = typer.Typer(
    cls=Group,
    help="List open alerts, failed checks and undelivered messages. Exits 3 if there are any or the daemon is down.",
)
app.add_typer(alerts, name="alerts")

INTERRUPTED = 130
"""The exit code that a shell reports for a program that Ctrl-C ended: 128 + SIGINT."""


def _print_version(value: bool) -> None:  # noqa: FBT001  # Typer calls it so
    if value:
        sys.stdout.write(f"backfill_assets {__version__}, Dagster {version('dagster')}, Python {python_version()}\n")
        raise typer.Exit


@app.callback()
def options_of_all(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Store complete OHLCV bars in PostgreSQL, kept up to date by Dagster."""


@app.command(cls=Command)
def run(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    max_concurrent: MaxConcurrent = 3,
    features: Annotated[bool, typer.Option("--features", help="Also compute the features of the same range.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Fetch missing bars.

    Exits 0 if complete, 1 if failed, 2 on wrong usage, 3 if days are still missing or data are wrong.
    """
    from backfill_assets.cli.run import run_command

    options = Options(symbols, markets, timeframes, days, start, end, max_concurrent, quiet or json)
    raise typer.Exit(run_command(options, features=features, as_json=json))


@app.command(cls=Command)
def plan(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    verbose: Verbose = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Show the requests that `run` would send, and the least time that they take. Fetches nothing."""
    from backfill_assets.cli.plan import plan_command

    raise typer.Exit(
        plan_command(Options(symbols, markets, timeframes, days, start, end), verbose=verbose, as_json=json)
    )


@app.command(cls=Command)
def features(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    full: Annotated[bool, typer.Option("--full", help="Recompute features that are up to date too.")] = False,
    max_concurrent: MaxConcurrent = 5,
    quiet: Quiet = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Compute missing and outdated features. Sends no request.

    Exits 0 if complete, 1 if failed, 2 on wrong usage, 3 if bars are missing or data are wrong.
    """
    from backfill_assets.cli.features import features_command

    options = Options(symbols, markets, timeframes, days, start, end, max_concurrent, quiet or json)
    raise typer.Exit(features_command(options, full=full, as_json=json))


@app.command(cls=Command)
def status(
    symbols: Symbols = None,
    markets: Markets = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an HTML page to this file.")] = None,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Show how complete each symbol is, and failed checks. Exits 3 if gaps are unexplained or data are wrong."""
    from backfill_assets.cli.status import status_command

    raise typer.Exit(status_command(Options(symbols, markets), as_json=json, html=html))


@app.command(cls=Command)
def gaps(
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """List gaps with their reason and next retry. Exits 3 if there are unexplained gaps."""
    from backfill_assets.cli.gaps import gaps_command

    raise typer.Exit(gaps_command(Options(symbols, markets, timeframes), as_json=json))


@app.command(cls=Command)
def repair(
    symbols: Symbols = None,
    markets: Markets = None,
    max_concurrent: MaxConcurrent = 3,
    explained: Annotated[
        bool, typer.Option("--explained", help="Also retry what is confirmed empty or not in the vendor's plan.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the requests.")] = False,
    quiet: Quiet = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Fetch all gaps now instead of at their next retry. Exits 3 if unexplained gaps are left or data are wrong."""
    from backfill_assets.cli.repair import repair_command

    options = Options(symbols, markets, max_concurrent=max_concurrent, quiet=quiet or json)
    raise typer.Exit(repair_command(options, explained=explained, dry_run=dry_run, as_json=json))


@app.command(cls=Command)
def events(symbols: Symbols = None, markets: Markets = None, json: Json = False, _demo: Demo = False) -> None:
    """Fetch and list splits and dividends of the stocks. Exits 0 if done, 1 if failed, 2 on wrong usage."""
    from backfill_assets.cli.events import events_command

    raise typer.Exit(events_command(Options(symbols, markets), as_json=json))


@app.command(cls=Command)
def report(
    run: Annotated[str | None, typer.Option(metavar="ID", help="Only this run.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The last run of each market (the default).")] = False,
    since: Annotated[
        date | None, typer.Option(parser=parse_day, metavar="DAY", help="All runs since this day, UTC.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON to this file.")] = None,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Show what past runs did, and failed checks. --json adds symbols, gaps with their outcome, and totals."""
    from backfill_assets.cli.report import report_command

    if last + (run is not None) + (since is not None) > 1:
        raise UsageMistake("--last, --run and --since exclude each other: give one of them.")
    raise typer.Exit(report_command(run, since, output, as_json=json))


@app.command(cls=Command)
def export(
    where: Annotated[str, typer.Argument(metavar="DIR", help="A folder, or s3://bucket/prefix.")],
    symbols: Symbols = None,
    markets: Markets = None,
    timeframes: Timeframes = None,
    start: Annotated[
        date | None,
        typer.Option(parser=parse_day, metavar="DAY", help="First day; its complete month is exported."),
    ] = None,
    end: Annotated[
        date | None, typer.Option(parser=parse_day, metavar="DAY", help="Last day; its complete month is exported.")
    ] = None,
    adjust: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="none, splits, or all: also for cash dividends, as `read_bars` does."),
    ] = None,
    features: Annotated[
        Names | None, typer.Option(parser=Names.parse, metavar="A,B", help="Also these features; all: every one.")
    ] = None,
    format: Annotated[  # noqa: A002  # the option's name
        str | None, typer.Option(metavar="FORMAT", help="parquet, csv or feather.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Reread all bars and rewrite every file that differs.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Keep exporting changes until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(min=1, max=86_400, metavar="N", help="Seconds between checks for changes.")
    ] = 30,
    quiet: Quiet = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Write stored bars to files, one per market, timeframe and month; later calls write only what has changed.

    A later call without --symbols, --adjust, --features or --format uses those of the first call.

    Exits 0 if complete, 1 if failed, 2 on wrong usage, 3 if days are missing.
    """
    from backfill_assets.cli.export import ExportOptions, export_command

    options = Options(symbols, markets, timeframes, start=start, end=end, quiet=quiet or json)
    how = ExportOptions(where, adjust, features, format, full, every if follow else None)
    raise typer.Exit(export_command(options, how, as_json=json))


@app.command(cls=Command)
def up(
    port: Annotated[int, typer.Option(min=1, max=65_535, metavar="N", help="Port of the Dagster UI.")] = 3000,
    host: Host = "127.0.0.1",
    behind_proxy: BehindProxy = False,
    status_port: Annotated[
        int | None,
        typer.Option(min=1, max=65_535, metavar="N", help="Port of the status page. Default: the one after --port."),
    ] = None,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="What Dagster logs: debug, info, warning, error or critical.")
    ] = "info",
    log_format: Annotated[str, typer.Option(metavar="FORMAT", help="Of Dagster's logs: text or json.")] = "text",
    _demo: Demo = False,
) -> None:
    """Start the Dagster UI (Dagit), the status page and the daemon; stop them with Ctrl-C."""
    from backfill_assets.cli.up import up_command
    from backfill_assets.deployment.services import Address, LogStyle

    logs = LogStyle.parse(log_level, log_format)
    ports = (port, status_port or (port + 1 if port < 65_535 else port - 1))
    address, status_page = (Address.parse(host, one, behind_proxy=behind_proxy) for one in ports)
    raise typer.Exit(up_command(address, status_page, logs))


@app.command(cls=Command)
def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, metavar="N", help="Port of the status page.")] = 3001,
    host: Host = "127.0.0.1",
    behind_proxy: BehindProxy = False,
    _demo: Demo = False,
) -> None:
    """Serve the status page, JSON API and metrics without the rest of `up`; stop with Ctrl-C."""
    from backfill_assets.cli.serve import serve_command
    from backfill_assets.deployment.services import Address

    raise typer.Exit(serve_command(Address.parse(host, port, behind_proxy=behind_proxy)))


@token.command("new", cls=Command)
def token_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the token is for: letters, digits, . _ and -.")],
    scope: Annotated[str, typer.Option(metavar="SCOPE", help="read, or launch: also what changes something.")] = "read",
) -> None:
    """Make a token for the API. Prints it, and what to add to BACKFILL_API_TOKENS; nothing is stored."""
    from backfill_assets.cli.serve import token_command

    raise typer.Exit(token_command(name, scope))


@app.command(cls=Command)
def healthcheck(
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Request this address instead, such as that of a server.")
    ] = None,
    _demo: Demo = False,
) -> None:
    """Report in one line whether the database and the daemon work. Exits 1 if not, or the daemon was not seen for 40 s."""
    from backfill_assets.cli.serve import healthcheck_command

    raise typer.Exit(healthcheck_command(url))


@app.command(cls=Command)
def demo() -> None:
    """Fetch a small universe from the simulator. Needs no key, no server and no setup."""
    from backfill_assets.cli.demo import demo_command

    raise typer.Exit(demo_command())


@symbols_group.command("list", cls=Command)
def symbols_list(json: Json = False, _demo: Demo = False) -> None:
    """List the symbols, and those that are stored but not in the universe, with their number of bars."""
    from backfill_assets.cli.symbols import list_command

    raise typer.Exit(list_command(as_json=json))


@symbols_group.command("add", cls=Command)
def symbols_add(
    names: Annotated[list[str], typer.Argument(metavar="SYMBOL…", help="For example NFLX AMD.")],
    market: Annotated[str | None, typer.Option(metavar="NAME", help="Needed if there are several.")] = None,
    ticker: Annotated[str | None, typer.Option(metavar="TICKER", help="The vendor's name, if it differs.")] = None,
    _demo: Demo = False,
) -> None:
    """Add symbols to the universe file. Comments are kept."""
    from backfill_assets.cli.symbols import add_command

    raise typer.Exit(add_command(names, market, ticker))


@symbols_group.command("remove", cls=Command)
def symbols_remove(
    names: Annotated[list[str], typer.Argument(metavar="SYMBOL…", help="For example NFLX AMD.")],
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete their bars and features, after confirmation.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    _demo: Demo = False,
) -> None:
    """Remove symbols from the universe file. Comments are kept."""
    from backfill_assets.cli.symbols import remove_command

    raise typer.Exit(remove_command(names, purge=purge, yes=yes))


ArchiveNames = Annotated[
    Names | None, typer.Option("--archives", parser=Names.parse, metavar="A,B", help="Only these archives.")
]
FirstDay = Annotated[
    date | None, typer.Option("--start", parser=parse_day, metavar="DAY", help="From this session on.")
]
LastDay = Annotated[
    date | None, typer.Option("--end", parser=parse_day, metavar="DAY", help="Up to this session, inclusive.")
]


@archive.command("status", cls=Command)
def archive_status(
    archives: ArchiveNames = None,
    start: FirstDay = None,
    end: LastDay = None,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Show how many sessions have a file. Exits 3 if files are missing."""
    from backfill_assets.cli.archive import chosen, open_place, status_command

    settings, _, some = chosen(archives, start, end)
    raise typer.Exit(status_command(some, open_place(settings), as_json=json))


@archive.command("fetch", cls=Command)
def archive_fetch(
    archives: ArchiveNames = None,
    start: FirstDay = None,
    end: LastDay = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write all files again, also those that are up to date.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
    _demo: Demo = False,
) -> None:
    """Write the sessions whose file is missing, or was replaced by the vendor. It can be stopped at any time.

    Exits 0 if complete, 1 if failed, 2 on wrong usage, 3 if files are missing.
    """
    from backfill_assets.cli.archive import chosen, fetch_command

    settings, universe, some = chosen(archives, start, end)
    raise typer.Exit(fetch_command(settings, universe, some, full=full, quiet=quiet or json, as_json=json))


@archive.command("verify", cls=Command)
def archive_verify(
    archives: ArchiveNames = None,
    start: FirstDay = None,
    end: LastDay = None,
    quiet: Quiet = False,
    _demo: Demo = False,
) -> None:
    """Read the files completely and print what is wrong with them. Exits 3 if anything is."""
    from backfill_assets.cli.archive import chosen, open_place, verify_command

    settings, _, some = chosen(archives, start, end)
    raise typer.Exit(verify_command(some, open_place(settings), quiet=quiet))


@alerts.callback(invoke_without_command=True)
def alerts_open(context: typer.Context, json: Json = False, _demo: Demo = False) -> None:
    """List open alerts unless another command of the group is called."""
    from backfill_assets.cli.alerts import alerts_command

    if context.invoked_subcommand is None:
        raise typer.Exit(alerts_command(as_json=json))


@alerts.command("test", cls=Command)
def alerts_test(_demo: Demo = False) -> None:
    """Send a test message to every channel of ALERT_URLS. Exits 1 if one is not accepted."""
    from backfill_assets.cli.alerts import alerts_test_command

    raise typer.Exit(alerts_test_command())


@db.command("url", cls=Command)
def db_url(_demo: Demo = False) -> None:
    """Print the database's URL; starts the embedded server if needed."""
    from backfill_assets.cli.db import url_command

    url_command()


@db.command("psql", cls=Command, context_settings={"ignore_unknown_options": True})
def db_psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="OPTIONS", help="Options of psql: -c 'select 1'.")
    ] = None,
    _demo: Demo = False,
) -> None:
    """Open the database in psql; starts the embedded server if needed."""
    from backfill_assets.cli.db import psql_command

    psql_command(arguments or [])


@db.command("start", cls=Command)
def db_start(_demo: Demo = False) -> None:
    """Start the embedded server and upgrade its tables."""
    from backfill_assets.cli.db import start_command

    start_command()


@db.command("stop", cls=Command)
def db_stop(
    force: Annotated[bool, typer.Option("--force", help="Also while `backfill up` runs.")] = False, _demo: Demo = False
) -> None:
    """Stop the embedded server; its data is kept. Refused while `backfill up` runs."""
    from backfill_assets.cli.db import stop_command

    stop_command(force=force)


@db.command("upgrade", cls=Command)
def db_upgrade(_demo: Demo = False) -> None:
    """Upgrade the market tables to the revision that this code needs."""
    from backfill_assets.cli.db import upgrade_command

    upgrade_command()


@db.command("purge", cls=Command)
def db_purge(
    older_than: Annotated[str, typer.Option(metavar="DAYS", help="Remove entries older than this: 90d.")] = "90d",
    _demo: Demo = False,
) -> None:
    """Remove old entries from Dagster's event log; what the UI shows of assets and checks is kept."""
    from backfill_assets.cli.db import purge_command

    purge_command(older_than)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong usage, 3 days missing or data wrong, 130 interrupted.

    The work is done even if the standard streams are closed or full. The exit code is not 0 if output was lost, except to a
    closed stream.
    """
    given = sys.argv[1:] if arguments is None else arguments
    output = open_standard_streams(demo="--demo" in given or given[:1] == ["demo"])
    # Stop on SIGTERM as on Ctrl-C. SIGINT stays ignored where the shell started the command with it ignored, as in a script's
    # background job.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = _exit_code(arguments)
    sys.stdout.flush()
    # A reader that ends early, as `head` does, is no mistake.
    if output.error and not isinstance(output.error, BrokenPipeError):
        _say(f"Standard output cannot be written ({output.error.strerror}).", code)
    gc.freeze()  # the last collection of the interpreter would look through everything that Dagster has loaded
    sys.exit(code or int(output.error is not None))


def _exit_code(arguments: list[str] | None) -> int:
    try:
        code = app(arguments, standalone_mode=False)
    except BackfillError as error:
        return _say(str(error), error.exit_code)
    except typer.TyperException as error:
        sentence = error.format_message().strip()
        if not sentence:  # the help was printed instead
            return UsageMistake.exit_code
        for theirs, ours in _RANGES.items():
            sentence = sentence.replace(theirs, ours)
        end = "" if sentence.endswith("?") else "."
        return _say(f"{sentence.removesuffix('.')}{end} See `{_called(error)} --help`.", UsageMistake.exit_code)
    except Exception as error:
        from backfill_assets.adapters.postgres import refused  # slow to import

        refusal = refused(error)
        if refusal is None:
            raise
        return _say(str(refusal), refusal.exit_code)
    if code == INTERRUPTED:  # Typer's code for Ctrl-C
        return _say("Stopped. Fetched data is kept; rerun to resume.", INTERRUPTED)
    return code if isinstance(code, int) else 0


_RANGES = {
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "Input should be": "must be",
}
"""Typer's words for a number that is out of range, and plain ones."""


def _called(error: typer.TyperException) -> str:
    """Return the command that was called wrongly: backfill db purge."""
    context = getattr(error, "ctx", None)
    return (
        f"backfill{context.command_path.removeprefix(context.find_root().info_name or '')}" if context else "backfill"
    )


def _say(sentence: str, code: int) -> int:
    sys.stderr.write(f"backfill: {sentence}\n")
    return code
