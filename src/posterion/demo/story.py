"""The demonstration's steps in order, each told as it is done.

On two cores a second process draws pictures all the while, each as soon as there is what it shows, and a third loads
the saved posterior while mini-batches are fitted; on one they take turns with the fits.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pymc as pm  # noqa: TID253  this module is loaded only when PyMC is wanted

import posterion as po
from posterion.demo.data import Data
from posterion.demo.fresh_process import FreshProcess
from posterion.demo.model import construct_minibatch_nn, construct_mistaken_nn, construct_nn
from posterion.demo.page import Findings
from posterion.demo.painter import Painter
from posterion.demo.steps import Size, expected_refusal, predict_surfaces, score
from posterion.demo.terminal import Narrator

_INPUT = "ann_input"


def tell(
    data: Data, folder: Path, narrator: Narrator, painter: Painter, size: Size, options: Mapping[str, Any]
) -> Findings:
    """Go through all steps.

    Parameters
    ----------
    data
        What to fit.
    folder
        For the saved posterior.
    narrator
        Tells every step.
    painter
        Draws the pictures.
    size
        How much work to do.
    options
        ``random_seed`` and ``progress`` of the fits.
    """
    drawings = {"data": painter.draw("data", data)}
    with narrator.step("Model") as step:
        neural_network = construct_nn(data.X_train, data.Y_train)
        step.say(f"PyMC, unchanged: {_weights(neural_network)}")
    with narrator.step("Fit") as step, neural_network:
        posterior = po.fit(method="advi", stop=size.rule(), **options)
        for line in _fit_lines(posterior):
            step.say(line)
    drawings["elbo"] = painter.draw("elbo", posterior.history)
    with narrator.step("Fixed steps") as step, neural_network:
        fixed = po.fit(method="advi", n=size.steps, **options)
        step.say(f"n={size.steps:,}: ELBO {fixed.elbo:.2f} in {fixed.record.seconds_running:.2f} s")
    with narrator.step("Sample") as step:
        draws = posterior.sample(size.draws)
        names = ", ".join(map(str, draws["posterior"].data_vars))
        step.say(f"{size.draws:,} draws of {names} as an ArviZ DataTree")
    drawings["parameters"] = painter.draw("parameters", draws)
    with narrator.step("Predict") as step:
        prediction = posterior.predict({_INPUT: data.X_test}, draws=size.draws)
        held_out = score(data, prediction.mean["out"])
        step.say(f"{held_out.correct} of {held_out.rows} held-out rows right")
    for name in ("predicted_labels", "reliability"):
        drawings[name] = painter.draw(name, data, held_out)
    with narrator.step("Surface") as step:
        surfaces = predict_surfaces(posterior, size)
        step.say(f"{size.draws:,} draws over {surfaces.mean.size:,} points: mean, spread, and its parts")
    for name in ("probability", "predicted_class_sd", "uncertainty"):
        drawings[name] = painter.draw(name, data, surfaces)
    with narrator.step("Save") as step:
        file = folder / f"{data.name}.posterion"
        posterior.save(file)
        step.say(f"{file} ({file.stat().st_size / 1024:.0f} kB)")
    with (
        tempfile.TemporaryDirectory() as exchange,
        FreshProcess(file, {_INPUT: data.X_test}, size.draws, Path(exchange)) as process,
    ):
        with narrator.step("Mini-batches") as step:
            by_model = po.fit(
                construct_minibatch_nn(data.X_train, data.Y_train, batch_size=size.batch_size),
                n=size.minibatch_steps,
                **options,
            )
            step.say(_minibatch_line("pm.Minibatch", by_model))
            drawings["minibatch_elbo"] = painter.draw("minibatch_elbo", by_model.history)
            by_option = po.fit(neural_network, batch_size=size.batch_size, stop=size.rule(), **options)
            step.say(_minibatch_line(f"batch_size={size.batch_size}", by_option))
            minibatch_probability = by_model.predict({_INPUT: data.X_test}, draws=size.draws).mean["out"]
            minibatch_held_out = score(data, minibatch_probability)
            step.say(f"{minibatch_held_out.correct} of {minibatch_held_out.rows} held-out rows right")
            refusal = _refusal(data.X_train, data.Y_train, size, options)
            step.say(f"two calls of pm.Minibatch are refused: {refusal}")
        with narrator.step("Load anew") as step:
            again = process.compare("out", prediction.mean["out"], prediction.std["out"])
            step.say(
                f"a new process without PyMC predicted {again.rows} rows {again.seconds:.1f} s after its start; "
                f"largest difference {again.largest_difference:.1g}"
            )
    with narrator.step("Pictures") as step:
        pictures = {name: drawing.result() for name, drawing in drawings.items()}
        step.say(f"{len(pictures)} pictures")
    return Findings(
        data=data,
        size=size,
        posterior=posterior,
        fixed=fixed,
        by_model=by_model,
        by_option=by_option,
        refusal=refusal,
        held_out=held_out,
        minibatch_held_out=minibatch_held_out,
        again=again,
        file=file,
        pictures=pictures,
    )


def _weights(model: pm.Model) -> str:
    dims = model.named_vars_to_dims
    return ", ".join(f"{rv.name} ({', '.join(map(str, dims[str(rv.name)]))})" for rv in model.free_RVs)


def _fit_lines(posterior: po.Posterior) -> list[str]:
    record = posterior.record
    return [
        record.sentence,
        f"ELBO {posterior.elbo:.2f} ± {posterior.elbo_se:.2f} nats on fresh draws",
        f"{record.steps:,} steps in {record.seconds_running:.2f} s, after {record.seconds_compiling:.2f} s compiling",
    ]


def _minibatch_line(name: str, posterior: po.Posterior) -> str:
    record = posterior.record
    return (
        f"{name}: {record.rows_per_step} of {record.num_rows} rows a step, {record.steps:,} steps, "
        f"ELBO {posterior.elbo:.2f}, {record.seconds_running:.2f} s"
    )


def _refusal(X_train: np.ndarray, Y_train: np.ndarray, size: Size, options: Mapping[str, Any]) -> str:
    with expected_refusal() as messages:
        po.fit(construct_mistaken_nn(X_train, Y_train, batch_size=size.batch_size), n=1, **options)
    return messages[0]
