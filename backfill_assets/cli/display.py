"""The display that progress is drawn on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class ProgressDisplay:
    """A progress display, drawn only on a terminal; elsewhere each step is printed as a line. A context manager."""

    def __init__(self, console: Console, unit: str) -> None:
        self._console = console
        self._display = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._run: TaskID | None = None

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def _advance(self, steps: int) -> None:
        if self._run is not None:
            self._display.advance(self._run, steps)

    def waiting(self, sentence: str) -> None:
        """Print what is waited for, above the bars."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    def _print(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, markup=False, soft_wrap=True)
