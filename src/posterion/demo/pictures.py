"""The pictures of the demonstration, with what they show in words."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import xarray as xr

from posterion.demo.data import Data
from posterion.demo.steps import HeldOut, Surfaces
from posterion.plots import (
    look,
    new_figure,
    parameters_size,
    plot_classes,
    plot_elbo,
    plot_labels,
    plot_parameters,
    plot_probability,
    plot_reliability,
    plot_surface,
    plot_uncertainty,
)
from posterion.report import ELBO_CAPTION, PARAMETERS_CAPTION, Picture

if TYPE_CHECKING:
    import matplotlib.figure


def draw(name: str, *shown: object) -> Picture:
    """Draw the picture of this name; what else it takes, the function of that picture says."""
    with look():
        return _DRAWN[name](*shown)


_MINIBATCH_CAPTION = (
    "The same by mini-batches of 50 rows. Estimates are always for all rows, so both pictures have the same scale; "
    "these are noisier, because which rows a step sees is one more chance."
)


def _classes(data: Data) -> Picture:
    figure = new_figure(5.2, 4.6)
    plot_classes(
        data.X, data.Y, class_names=data.classes, input_names=data.inputs, title=data.title, ax=figure.subplots()
    )
    return _picture(
        figure,
        "data",
        f"Scatter plot of {len(data.Y)} rows over two inputs; the classes {' and '.join(data.classes)} overlap.",
        "All rows, before they are split into halves to fit and to test.",
    )


def _elbo(history: xr.Dataset, name: str = "elbo", caption: str = ELBO_CAPTION) -> Picture:
    figure = new_figure(6.6, 3.7)
    plot_elbo(history, ax=figure.subplots())
    falls = f"It falls and settles after {history.sizes['step']:,} steps."
    return _picture(figure, name, f"Line plot of the negative ELBO over the steps of the fit. {falls}", caption)


def _minibatch_elbo(history: xr.Dataset) -> Picture:
    return _elbo(history, "minibatch_elbo", _MINIBATCH_CAPTION)


def _parameters(draws: xr.DataTree) -> Picture:
    figure = new_figure(*parameters_size(draws))
    plot_parameters(draws, figure=figure)
    return _picture(
        figure,
        "parameters",
        "Marginal posterior of every weight as a violin with median and intervals, in one panel per layer.",
        f"{PARAMETERS_CAPTION} Wide ones, centred at 0, are weights that mean-field inference left at their prior: "
        "units the data did not need.",
    )


def _labels(data: Data, held_out: HeldOut) -> Picture:
    figure = new_figure(5.2, 4.6)
    plot_labels(
        data.X_test,
        data.Y_test,
        held_out.probability >= 0.5,
        class_names=data.classes,
        input_names=data.inputs,
        ax=figure.subplots(),
    )
    mistakes = held_out.rows - held_out.correct
    return _picture(
        figure,
        "predicted_labels",
        f"Scatter plot of the {held_out.rows} held-out rows by predicted class; {mistakes} mistakes are ringed.",
        "Predicted labels of the held-out half. Mistakes, ringed, lie where the classes overlap.",
    )


def _reliability(data: Data, held_out: HeldOut) -> Picture:
    figure = new_figure(4.8, 5.6)
    plot_reliability(held_out.table, outcome=data.classes[1], ax=figure.subplots())
    return _picture(
        figure,
        "reliability",
        "Reliability diagram: frequency against predicted probability in ten bins, with 95 % intervals and counts.",
        "How often predictions came true. Bars are 95 % intervals; below, the rows behind each point: most bins hold "
        "few, so single points say little.",
    )


def _probability(data: Data, surfaces: Surfaces) -> Picture:
    figure = new_figure(5.4, 4.6)
    plot_probability(
        surfaces.line,
        surfaces.line,
        surfaces.mean,
        label=f"probability of {data.classes[1]}",
        title="Posterior mean probability",
        input_names=data.inputs,
        points=(data.X_test, data.Y_test),
        class_names=data.classes,
        ax=figure.subplots(),
    )
    return _picture(
        figure,
        "probability",
        f"Map of the probability of {data.classes[1]} over the two inputs with contours; held-out rows on top.",
        "The predictive probability, averaged over the posterior. The thick line is the decision boundary, one half.",
    )


def _predicted_class_sd(data: Data, surfaces: Surfaces) -> Picture:
    figure = new_figure(5.4, 4.6)
    plot_surface(
        surfaces.line,
        surfaces.line,
        surfaces.std,
        label="SD of 0/1 outcomes",
        title="The notebook's uncertainty: SD of the predicted class",
        limits=(0.0, 0.5),
        contours=5,
        input_names=data.inputs,
        points=(data.X_test, data.Y_test),
        ax=figure.subplots(),
    )
    return _picture(
        figure,
        "predicted_class_sd",
        "Map of the standard deviation of the predicted class; a ridge of 0.5 runs along the decision boundary.",
        "The notebook's own picture. Since outcomes are 0 or 1 it is √(p (1 − p)): the probability again, not what the "
        "model does not know.",
    )


def _uncertainty(data: Data, surfaces: Surfaces) -> Picture:
    figure = new_figure(8.6, 7.4)
    parts = {name: getattr(surfaces, name) for name in ("std", "mean_std", "aleatoric", "epistemic")}
    plot_uncertainty(
        surfaces.line,
        surfaces.line,
        parts,
        points=(data.X_train, data.Y_train),
        input_names=data.inputs,
        class_names=data.classes,
        figure=figure,
    )
    return _picture(
        figure,
        "uncertainty",
        "Four maps of uncertainty: left, SD of the class and expected entropy, large along the whole boundary; right, "
        "SD of the probability and mutual information, small where data lie and large away from them.",
        "Uncertainty taken apart, with the rows that were fitted. Left: large wherever classes mix, however much data "
        "there are. Right: how far posterior draws disagree, small where there are data and large along the boundary "
        "beyond them. The lower pictures, in nats, add up to the entropy of the prediction.",
    )


_DRAWN: dict[str, Callable[..., Picture]] = {
    "data": _classes,
    "elbo": _elbo,
    "minibatch_elbo": _minibatch_elbo,
    "parameters": _parameters,
    "predicted_labels": _labels,
    "reliability": _reliability,
    "probability": _probability,
    "predicted_class_sd": _predicted_class_sd,
    "uncertainty": _uncertainty,
}


def _picture(figure: "matplotlib.figure.Figure", name: str, alt: str, caption: str) -> Picture:
    return Picture.of(figure, name, alt=alt, caption=caption)
