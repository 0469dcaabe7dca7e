"""The demonstration from beginning to end."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from posterion._optional import import_optional
from posterion.demo.data import DATA_SETS, load_data
from posterion.demo.painter import Painter
from posterion.demo.terminal import Narrator
from posterion.errors import OptionError

if TYPE_CHECKING:
    from posterion.demo.page import Findings


@dataclass(frozen=True)
class Demo:
    """What a demonstration left behind.

    Parameters
    ----------
    numbers
        As in the table at its end: name to text.
    accuracy, log_score, brier, calibration_error
        Of the held-out half.
    elbo
        In nats.
    largest_difference
        Between the predictions of this and of a new process.
    seconds
        By step.
    folder, report, posterior
        Where its pictures, its page and its saved posterior are.
    pictures
        The files, by name.
    """

    numbers: dict[str, str]
    accuracy: float
    log_score: float
    brier: float
    calibration_error: float
    elbo: float
    largest_difference: float
    seconds: dict[str, float]
    folder: Path
    report: Path
    posterior: Path
    pictures: dict[str, Path]


def run_demo(
    data: str = "cancer",
    output: str | PathLike = "posterion-demo",
    *,
    random_seed: int = 0,
    quick: bool = False,
    progress: bool = True,
    console: Console | None = None,
) -> Demo:
    """Fit the notebook's Bayesian neural network and write pictures and a report about it.

    Parameters
    ----------
    data
        "cancer" or "moons".
    output
        Folder for the pictures, the report and the saved posterior; made if it is not there.
    random_seed
        The same seed gives the same numbers on the same machine and versions.
    quick
        Fewer steps, draws and points: for trying the demo out, not for its numbers.
    progress
        Whether fits show a bar where somebody can see it.
    console
        Where the story is printed; None for standard output.

    Returns
    -------
    Demo
        The numbers and the files.

    Raises
    ------
    OptionError
        For an unknown data set, or an output that is a file.
    MissingExtraError
        If PyMC, scikit-learn or Matplotlib is not installed.
    """
    if data not in DATA_SETS:
        raise OptionError(f"data must be one of {', '.join(DATA_SETS)}; found {data!r}")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"the output {str(folder)!r} is a file; give a folder")
    narrator = Narrator(console or Console())
    narrator.title(f"Posterion demo: a Bayesian neural network on {data}, seed {random_seed}")
    with Painter() as painter:  # what it needs is loaded while this process loads other things
        with narrator.step("Data") as step:
            rows = load_data(data)
            step.say(f"{rows.source}; {len(rows.Y_train)} rows to fit, {len(rows.Y_test)} held out")
        with narrator.step("Imports") as step:
            step.say(_import_what_is_needed())
        folder.mkdir(parents=True, exist_ok=True)
        from posterion.demo.steps import QUICK, Size
        from posterion.demo.story import tell

        options = {"random_seed": random_seed, "progress": progress}
        found = tell(rows, folder, narrator, painter, QUICK if quick else Size(), options)
    return _conclude(found, folder, narrator)


def _import_what_is_needed() -> str:
    pymc = import_optional("pymc", "pymc", "The demo's model")
    import_optional("matplotlib", "plots", "Pictures")
    import jax

    import posterion

    return f"posterion {posterion.__version__}, PyMC {pymc.__version__}, JAX {jax.__version__}"


def _conclude(found: "Findings", folder: Path, narrator: Narrator) -> Demo:
    from posterion.demo.page import number_rows, report_page

    files = {name: picture.write(folder) for name, picture in found.pictures.items()}
    report = report_page(found).write(folder / "report.html")
    numbers = [*number_rows(found), ("seconds", f"{narrator.elapsed:.1f}"), ("report", str(report))]
    narrator.numbers(numbers)
    held_out = found.held_out
    return Demo(
        numbers=dict(numbers),
        accuracy=held_out.accuracy,
        log_score=held_out.log_score,
        brier=held_out.brier,
        calibration_error=held_out.calibration_error,
        elbo=found.posterior.elbo,
        largest_difference=found.again.largest_difference,
        seconds=dict(narrator.seconds),
        folder=folder,
        report=report,
        posterior=found.file,
        pictures=files,
    )
