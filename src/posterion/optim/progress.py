"""Progress of long work: a bar on a terminal, a widget in a notebook, nothing where nobody looks."""

import sys
import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class ProgressReporter(Protocol):
    """What the loop tells while it runs, between compiled chunks."""

    def update(self, done: int, total: int | None, loss: float, note: str = "") -> None:
        """Report ``done`` steps of ``total`` (None: not known), the recent average loss, and a note."""

    def close(self) -> None:
        """Finish; called once, also after an error."""


class Silent:
    """Reports nothing."""

    def update(self, done: int, total: int | None, loss: float, note: str = "") -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A line with a bar, the steps per second and the average negative ELBO, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # In a notebook rich would need ipywidgets; a line that is written over works without.
        notebook = {"force_terminal": True, "width": 110} if _in_notebook() else {}
        self._console = Console(file=sys.stderr, force_jupyter=False, **notebook)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[steps]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=False,
        )
        self._task = self._progress.add_task("Compiling", total=None, steps="", rate="", loss="")
        self._progress.start()
        self._start: tuple[float, int] | None = None

    def update(self, done: int, total: int | None, loss: float, note: str = "") -> None:
        """Redraw the line."""
        now = time.perf_counter()
        if self._start is None:
            self._start = (now, done)
        seconds, steps = now - self._start[0], done - self._start[1]
        rate = f"{steps / seconds:,.0f} steps/s" if seconds > 0 and steps > 0 else ""
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            description=note or "Fitting",
            steps=f"{done:,}" + (f"/{total:,}" if total else "") + " steps",
            rate=rate,
            loss=f"average loss {loss:,.5g}",
        )

    def close(self) -> None:
        """Leave the last line standing."""
        task = self._progress.tasks[self._task]
        if task.total is None:
            self._progress.update(self._task, total=task.completed or 1, completed=task.completed or 1)
        self._progress.stop()


def reporter(*, progress: bool) -> ProgressReporter:
    """A bar if asked for and somebody looks (a terminal or a notebook), else silence."""
    if not progress:
        return Silent()
    from rich.console import Console

    if _in_notebook() or Console(file=sys.stderr, force_jupyter=False).is_terminal:
        return Bar()
    return Silent()


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
