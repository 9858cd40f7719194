"""When Python looks for garbage while a command starts and ends."""

from __future__ import annotations

import gc


def rare_while_loading() -> None:
    """Hardly look from now on: loading Dagster makes millions of objects and no garbage, and looking took an eighth of the
    time from the shell to the first request.
    """
    gc.set_threshold(100_000, 20, 20)


def usual_from_here() -> None:
    """Look as Python does by default, but never again at what is there by now: rarer, a run of a year took 50 MiB more."""
    gc.freeze()
    gc.set_threshold(*_DEFAULT)


def none_at_the_end() -> None:
    """Let Python end without looking through all objects once more, which took a second."""
    gc.freeze()


_DEFAULT = gc.get_threshold()
