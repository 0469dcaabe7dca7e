"""What the demonstration says on the terminal while it runs, and the table it ends with."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.table import Table


class Step:
    """One step: collects the lines that say what came out of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)


class Narrator:
    """Prints one entry per step: number, name, what came out, seconds.

    Parameters
    ----------
    console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    def title(self, text: str) -> None:
        """Print the heading."""
        self.console.print(f"[bold]{text}[/bold]", highlight=False)
        self.console.print()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time what happens inside and print its lines at the end."""
        began, step = time.perf_counter(), Step()
        yield step
        self.seconds[name] = time.perf_counter() - began
        row = Table.grid(padding=(0, 1))
        row.add_column(width=2, justify="right", style="dim")
        row.add_column(width=12, style="bold")
        row.add_column(ratio=1, overflow="fold")
        row.add_column(width=7, justify="right", style="dim")
        for k, line in enumerate(step.lines or [""]):
            first = k == 0
            row.add_row(
                str(len(self.seconds)) if first else "",
                name if first else "",
                line,
                f"{self.seconds[name]:.1f} s" if first else "",
            )
        row.expand = True
        self.console.print(row, highlight=False, markup=False)

    def numbers(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print the table of numbers at the end."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column()
        for name, value in rows:
            grid.add_row(name, value)
        self.console.print()
        self.console.print(Padding(grid, (0, 0, 0, 3)), highlight=False)
