"""The demonstration from beginning to end."""

import tempfile
import threading
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from rich.console import Console

from posterion._optional import import_optional
from posterion.demo.data import DATA_SETS, Data, load_data
from posterion.demo.terminal import Narrator
from posterion.errors import OptionError


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
    with narrator.step("Data") as step:
        rows = load_data(data)
        step.say(f"{rows.source}; {len(rows.Y_train)} rows to fit, {len(rows.Y_test)} held out")
    with narrator.step("Imports") as step:
        step.say(_import_what_is_needed())
    folder.mkdir(parents=True, exist_ok=True)
    return _Story(rows, folder, narrator, seed=random_seed, quick=quick, progress=progress).tell()


def _import_what_is_needed() -> str:
    pymc = import_optional("pymc", "pymc", "The demo's model")
    import_optional("matplotlib", "plots", "Pictures")
    import jax

    import posterion

    # Pictures are drawn at the end; their packages load while the first fit compiles, which needs no interpreter.
    threading.Thread(
        target=lambda: import_optional("posterion.demo.pictures", "plots", "Pictures"), daemon=True
    ).start()
    return f"posterion {posterion.__version__}, PyMC {pymc.__version__}, JAX {jax.__version__}"


class _Story:
    """The steps in order; each leaves what later ones need."""

    def __init__(self, data: Data, folder: Path, narrator: Narrator, *, seed: int, quick: bool, progress: bool) -> None:
        from posterion.demo.steps import QUICK, Size

        self.data, self.folder, self.narrator = data, folder, narrator
        self.size = QUICK if quick else Size()
        self.options = {"random_seed": seed, "progress": progress}

    def tell(self) -> Demo:
        self._fit()
        self._predict()
        self._minibatches()
        return self._write_down(self._save())

    def _fit(self) -> None:
        import posterion as po
        from posterion.demo.model import construct_nn

        with self.narrator.step("Model") as step:
            neural_network = construct_nn(self.data.X_train, self.data.Y_train)
            dims = neural_network.named_vars_to_dims
            weights = [f"{rv.name} ({', '.join(map(str, dims[rv.name]))})" for rv in neural_network.free_RVs]
            step.say(f"PyMC, unchanged: {', '.join(weights)}")
        with self.narrator.step("Fit") as step, neural_network:
            self.posterior = po.fit(method="advi", stop=self.size.rule(), **self.options)
            record = self.posterior.record
            step.say(record.sentence)
            step.say(f"ELBO {self.posterior.elbo:.2f} ± {self.posterior.elbo_se:.2f} nats on fresh draws")
            step.say(
                f"{record.steps:,} steps in {record.seconds_running:.2f} s, after "
                f"{record.seconds_compiling:.2f} s of compiling"
            )
        with self.narrator.step("Fixed steps") as step, neural_network:
            self.fixed = po.fit(method="advi", n=self.size.steps, **self.options)
            step.say(f"n={self.size.steps:,}: ELBO {self.fixed.elbo:.2f} in {self.fixed.record.seconds_running:.2f} s")
        self.neural_network = neural_network

    def _predict(self) -> None:
        from posterion.demo.steps import predict_surfaces, score

        with self.narrator.step("Sample") as step:
            self.draws = self.posterior.sample(self.size.draws)
            group = self.draws["posterior"]
            step.say(f"{self.size.draws:,} draws of {', '.join(map(str, group.data_vars))} as an ArviZ DataTree")
        with self.narrator.step("Predict") as step:
            self.inputs = {"ann_input": self.data.X_test}
            self.prediction = self.posterior.predict(self.inputs, draws=self.size.draws)
            self.held_out = score(self.data, self.prediction.mean["out"])
            step.say(f"{self.held_out.correct} of {self.held_out.rows} held-out rows right")
        with self.narrator.step("Surface") as step:
            self.surfaces = predict_surfaces(self.posterior, self.size)
            step.say(f"{self.size.draws:,} draws over {self.surfaces.mean.size:,} points: mean, spread, and its parts")

    def _minibatches(self) -> None:
        import posterion as po
        from posterion.demo.model import construct_minibatch_nn, construct_mistaken_nn
        from posterion.demo.steps import expected_refusal, score

        rows = self.data.X_train, self.data.Y_train
        with self.narrator.step("Mini-batches") as step:
            minibatch_nn = construct_minibatch_nn(*rows, batch_size=self.size.batch_size)
            self.by_model = po.fit(minibatch_nn, n=self.size.minibatch_steps, **self.options)
            step.say(_minibatch_line("pm.Minibatch", self.by_model))
            self.by_option = po.fit(
                self.neural_network, batch_size=self.size.batch_size, stop=self.size.rule(), **self.options
            )
            step.say(_minibatch_line(f"batch_size={self.size.batch_size}", self.by_option))
            self.minibatch_held_out = score(
                self.data, self.by_model.predict(self.inputs, draws=self.size.draws).mean["out"]
            )
            step.say(f"{self.minibatch_held_out.correct} of {self.minibatch_held_out.rows} held-out rows right")
            mistaken = construct_mistaken_nn(*rows, batch_size=self.size.batch_size)
            with expected_refusal() as messages:
                po.fit(mistaken, n=1, **self.options)
            self.refusal = messages[0]
            step.say(f"two calls of pm.Minibatch are refused: {self.refusal}")

    def _save(self) -> Path:
        path = self.folder / f"{self.data.name}.posterion"
        with self.narrator.step("Save") as step:
            self.posterior.save(path)
            step.say(f"{path} ({path.stat().st_size / 1024:.0f} kB)")
        return path

    def _write_down(self, posterior: Path) -> Demo:
        from posterion.demo.fresh_process import FreshProcess
        from posterion.demo.page import Findings, number_rows, report_page

        with tempfile.TemporaryDirectory() as exchange:
            process = FreshProcess(posterior, self.inputs, self.size.draws, Path(exchange))
            with self.narrator.step("Pictures") as step:
                pictures = self._draw()
                files = {name: picture.write(self.folder) for name, picture in pictures.items()}
                step.say(f"{len(files)} PNG files")
            with self.narrator.step("Load anew") as step:
                again = process.compare("out", self.prediction.mean["out"], self.prediction.std["out"])
                step.say(
                    f"a new process without PyMC predicts {again.rows} rows {again.seconds:.1f} s after its start; "
                    f"largest difference {again.largest_difference:.1g}"
                )
        found = Findings(
            data=self.data,
            size=self.size,
            posterior=self.posterior,
            fixed=self.fixed,
            by_model=self.by_model,
            by_option=self.by_option,
            refusal=self.refusal,
            held_out=self.held_out,
            minibatch_held_out=self.minibatch_held_out,
            again=again,
            file_bytes=posterior.stat().st_size,
            pictures=pictures,
        )
        report = report_page(found).write(self.folder / "report.html")
        numbers = [*number_rows(found), ("seconds", f"{self.narrator.elapsed:.1f}"), ("report", str(report))]
        self.narrator.numbers(numbers)
        return Demo(
            numbers=dict(numbers),
            accuracy=self.held_out.accuracy,
            log_score=self.held_out.log_score,
            brier=self.held_out.brier,
            calibration_error=self.held_out.calibration_error,
            elbo=self.posterior.elbo,
            largest_difference=again.largest_difference,
            seconds=dict(self.narrator.seconds),
            folder=self.folder,
            report=report,
            posterior=posterior,
            pictures=files,
        )

    def _draw(self) -> dict:
        from posterion.demo.pictures import draw_all

        return draw_all(
            self.data, self.posterior.history, self.by_model.history, self.draws, self.held_out, self.surfaces
        )


def _minibatch_line(name: str, fit) -> str:
    record = fit.record
    return (
        f"{name}: {record.rows_per_step} of {record.num_rows} rows a step, {record.steps:,} steps, "
        f"ELBO {fit.elbo:.2f}, {record.seconds_running:.2f} s"
    )
