"""Ctrl-C and its like, for a piece of asynchronous work.

What lives here: turning a signal into the cancellation of a task, so that what it opened is closed in order. What does not:
what the work is, and what is said to the person.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from backfill_assets.run_tags import PROCESS_TAG


@contextmanager
def interruptible(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Within it SIGINT, SIGTERM and SIGHUP cancel the running task, and come out as Dagster's word for an interruption.

    Dagster's own handler raises out of the event loop instead, which leaves tasks and connections behind. Other threads than
    the main one get no signals: there it does nothing.
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    caught: list[signal.Signals] = []

    def stop(name: signal.Signals) -> None:
        if not caught and PROCESS_TAG in context.run.tags:
            # A command's own run: whoever pressed Ctrl-C meant it. A run of the daemon's is said to be canceled by Dagit.
            context.instance.report_run_canceling(context.run)
        caught.append(name)
        task.cancel()

    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for name in before:
        loop.add_signal_handler(name, stop, name)
    try:
        yield
    except asyncio.CancelledError:
        if not caught:
            raise
        task.uncancel()
        raise dg.DagsterExecutionInterruptedError(caught[0].name) from None
    finally:
        for name, handler in before.items():
            loop.remove_signal_handler(name)
            signal.signal(name, handler)
