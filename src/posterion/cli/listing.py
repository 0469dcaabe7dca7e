"""What commands tell a person: what is being done on standard error, and what was asked for on standard output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from posterion.tabular.model import TabularModel

_WORDS = {
    "accuracy": ("accuracy", "{:.1%}"),
    "log_score": ("log score (nats)", "{:.3f}"),
    "brier": ("Brier", "{:.3f}"),
    "calibration_error": ("calibration error", "{:.3f}"),
    "rmse": ("RMSE", "{:.4g}"),
    "mae": ("mean absolute error", "{:.4g}"),
    "r2": ("R²", "{:.3f}"),
    "coverage_90": ("in 90 % interval", "{:.1%}"),
}


class Listing:
    """Speaks on standard error, or not at all.

    Parameters
    ----------
    quiet
        Whether to keep silent.
    asked
        Whether the listing is what was asked for: then it goes to standard output, where it can be piped and kept.
    """

    def __init__(self, *, quiet: bool = False, asked: bool = False) -> None:
        self._console = Console(stderr=not asked, quiet=quiet, highlight=False)

    def say(self, text: str, *, style: str = "") -> None:
        """A line as it is: names of columns and files may hold brackets, which Rich would take for markup."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def busy(self) -> Iterator[Callable[[str], Any]]:
        """While something is being done; what is given to the function it yields is shown where somebody can see it."""
        if not self._console.is_terminal:
            yield lambda what: None
            return
        with self._console.status("") as status:
            yield lambda what: status.update(what)

    def trained(self, model: "TabularModel") -> None:
        """The columns, what was left out, what is suspicious, and the scores of a model that was just fitted."""
        rows = model.summary["rows"]
        self.say(f"{model.target} ({model.task}: {model.summary['why']})", style="bold")
        if model.summary["without_outcome"]:
            self.say(f"{model.summary['without_outcome']:,} rows without an outcome were left out")
        columns = Table("column", "kind", "content", "missing", box=None, header_style="bold", pad_edge=False)
        for column in model.schema.columns[:40]:
            share = column.missing / max(model.schema.num_rows, 1)
            cells = column.name, column.kind, column.describe(), f"{share:.0%}" if column.missing else ""
            columns.add_row(*map(Text, cells))
        self._console.print(columns)
        if len(model.schema.columns) > 40:
            self.say(f"... and {len(model.schema.columns) - 40} more columns")
        for name, reason in model.schema.dropped:
            self.say(f"left out: {name!r} {reason}")
        for suspicion in model.summary["suspicions"]:
            self.say(f"suspicious: {suspicion['text']}", style="yellow")
        for label in model.summary.get("rare_labels", []):
            self.say(f"rare: {label}", style="yellow")
        if repeated := model.summary.get("repeated"):
            self.say(f"repeated: {repeated}", style="yellow")
        if "scores" in model.summary:
            scores = {"this model": model.summary["scores"], **model.summary["baselines"]}
            self.scores(scores, f"{rows['held_out']:,} rows held out, {rows['training']:,} fitted")
        else:
            self.say(f"{rows['training']:,} rows fitted; too few to hold any out, so there are no scores")

    def scores(self, scores: Mapping[str, Mapping[str, float]], title: str) -> None:
        """Scores of one or more models, a row each."""
        names = list(next(iter(scores.values())))
        table = Table("", *(_WORDS[name][0] for name in names), title=Text(title), title_justify="left", box=None)
        for model, values in scores.items():
            table.add_row(
                Text(model), *(_WORDS[name][1].format(values[name]) if name in values else "" for name in names)
            )
        self._console.print(table)
