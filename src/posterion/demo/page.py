"""The report of the demonstration: the story in sections, with the numbers first."""

from dataclasses import dataclass
from pathlib import Path

import posterion as po
from posterion.demo.data import Data
from posterion.demo.fresh_process import Comparison
from posterion.demo.steps import HeldOut, Size
from posterion.report import Page, Picture, Section, Table, fit_section, footer, verdict_section


@dataclass(frozen=True)
class Findings:
    """Everything the report tells.

    Parameters
    ----------
    data, size
        What was done, and how much of it.
    posterior, fixed
        Stopped by itself, and after a fixed number of steps.
    by_model, by_option
        Mini-batch fits: of the model with ``pm.Minibatch``, and of the model on all rows with ``batch_size``.
    refusal
        What two separate calls of ``pm.Minibatch`` are answered.
    held_out, minibatch_held_out
        Scores of the full and of the mini-batch fit.
    again
        The prediction of a new process against ours.
    file
        The saved posterior.
    pictures
        By name.
    """

    data: Data
    size: Size
    posterior: po.Posterior
    fixed: po.Posterior
    by_model: po.Posterior
    by_option: po.Posterior
    refusal: str
    held_out: HeldOut
    minibatch_held_out: HeldOut
    again: Comparison
    file: Path
    pictures: dict[str, Picture]


def number_rows(found: Findings) -> list[tuple[str, str]]:
    """The numbers at a glance, as (name, value)."""
    held, data, fit = found.held_out, found.data, found.posterior
    low, high = held.accuracy_interval
    rows = [
        ("accuracy", f"{held.accuracy:.4%}: {held.correct} of {held.rows} rows (95 % interval {low:.1%} to {high:.1%})")
    ]
    if data.reference is not None:
        rows.append(("the notebook's own", f"{data.reference / held.rows:.4%}: {data.reference} of {held.rows} rows"))
    return [
        *rows,
        (
            "log score",
            f"{held.log_score:.4f} ± {held.log_score_error:.4f} nats a row (base rate {held.base_log_score:.4f})",
        ),
        ("Brier score", f"{held.brier:.4f}"),
        (
            "calibration error",
            f"{held.calibration_error:.4f} in ten equal bins, "
            f"{held.calibration_error_equal_mass:.4f} in bins of equally many rows",
        ),
        ("ELBO", f"{fit.elbo:.2f} ± {fit.elbo_se:.2f} nats"),
        ("stop", fit.record.sentence),
        ("verdict", fit.diagnose().summary),
        ("mini-batches", _minibatch_line(found)),
    ]


def _minibatch_line(found: Findings) -> str:
    held, fit = found.minibatch_held_out, found.by_model
    return (
        f"{fit.record.rows_per_step} of {fit.record.num_rows} rows a step, {fit.record.steps:,} steps in "
        f"{fit.record.seconds_running:.2f} s: ELBO {fit.elbo:.2f}, {held.correct} of {held.rows} right"
    )


def report_page(found: Findings) -> Page:
    """The whole report."""
    data, pictures = found.data, found.pictures
    show = lambda *names: [pictures[name] for name in names]
    lead = (
        f"A Bayesian neural network of {found.posterior.layout.size} weights, written in PyMC and not changed, fitted "
        f"by variational inference in {found.posterior.record.seconds_running:.1f} seconds: "
        f"{found.held_out.correct} of {found.held_out.rows} held-out rows predicted rightly, with what the model knows "
        "told apart from what nobody can know."
    )
    sections = [
        Section("The numbers", tables=[Table(("", ""), number_rows(found))]),
        Section("The data", [_split_sentence(data)], pictures=show("data")),
        fit_section(found.posterior, show("elbo")),
        verdict_section(found.posterior),
        Section("The weights", pictures=show("parameters")),
        Section(
            "Predictions of held-out rows",
            _prediction_sentences(found),
            pictures=show("predicted_labels", "reliability"),
        ),
        Section(
            "Over the whole plane",
            [f"{found.size.draws:,} posterior draws over a grid of {found.size.grid**2:,} points."],
            pictures=show("probability", "predicted_class_sd"),
        ),
        Section("What is known and what is not", pictures=show("uncertainty")),
        _minibatch_section(found, show("minibatch_elbo")),
        Section("Saved and loaded", [_saved_sentence(found)]),
        Section("How to reproduce this", _REPRODUCE, code=_code(found)),
    ]
    return Page(f"Posterion demo: {data.title}", lead, sections, footer())


def _split_sentence(data: Data) -> str:
    return (
        f"{data.source}: {len(data.Y)} rows, of which {len(data.Y_train)} are fitted and {len(data.Y_test)} held out "
        "(train_test_split with test_size=0.5 and random_state=0). As in the notebook the inputs were scaled before "
        "they were split."
    )


def _prediction_sentences(found: Findings) -> list[str]:
    held, reference = found.held_out, found.data.reference
    low, high = held.accuracy_interval
    sentences = [
        f"{held.correct} of {held.rows} right. With so few rows the interval for the accuracy reaches from {low:.1%} "
        f"to {high:.1%}, so a handful of rows more or less tells nothing."
    ]
    if reference is not None:
        sentences.append(
            f"The notebook reports {reference / held.rows:.4%}, {reference} rows. Log score and Brier score, which "
            "judge the probabilities and not only which side of one half they are on, tell models apart better."
        )
    return sentences


def _minibatch_section(found: Findings, pictures: list[Picture]) -> Section:
    columns = ("fit", "rows a step", "steps", "ELBO (nats)", "compiling", "running", "stop")
    named = (
        ("all rows, stops by itself", found.posterior),
        (f"all rows, n={found.size.steps:,}", found.fixed),
        (f"pm.Minibatch, n={found.size.minibatch_steps:,}", found.by_model),
        (f"batch_size={found.size.batch_size}, stops by itself", found.by_option),
    )
    rows = [(name, *_fit_cells(fit)) for name, fit in named]
    text = [
        "Rows are drawn at random for every step, inputs and labels with one index, and the bound is scaled to all "
        "rows; the ELBO below is that of all rows on fresh draws, whatever a fit saw.",
        f"Two separate calls of pm.Minibatch would pair inputs with the labels of other rows. They are refused: "
        f"“{found.refusal}”",
    ]
    return Section("By mini-batches", text, tables=[Table(columns, rows)], pictures=pictures)


def _fit_cells(fit: po.Posterior) -> tuple[str, ...]:
    record = fit.record
    return (
        f"{record.rows_per_step or 'all'}",
        f"{record.steps:,}",
        f"{fit.elbo:.2f} ± {fit.elbo_se:.2f}",
        f"{record.seconds_compiling:.2f} s",
        f"{record.seconds_running:.2f} s",
        record.status.replace("_", " "),
    )


def _saved_sentence(found: Findings) -> str:
    again = found.again
    return (
        f"The posterior is one file of {found.file.stat().st_size / 1024:.0f} kB. A new Python process in which PyMC "
        f"cannot be imported loaded it and predicted the {again.rows} held-out rows in {again.seconds:.1f} s from its "
        f"start; the largest difference from the predictions here is {again.largest_difference:.1g}."
    )


_REPRODUCE = [
    "The same seed gives the same numbers on the same machine and versions. In Python, with the model as it is:"
]


def _code(found: Findings) -> str:
    seed = found.posterior.random_seed
    return f"""\
$ posterion demo --data {found.data.name} --seed {seed}

import posterion as po
from posterion.demo.data import load_data
from posterion.demo.model import construct_nn

data = load_data("{found.data.name}")
with construct_nn(data.X_train, data.Y_train):
    approx = po.fit(method="advi", random_seed={seed})
print(approx)
trace = approx.sample(2500)
prediction = approx.predict({{"ann_input": data.X_test}}, draws=2500)
prediction.mean["out"], prediction.epistemic["out"], prediction.aleatoric["out"]"""
