"""Each picture shows the numbers it was given, and renders without a warning."""

import warnings

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba

from posterion.decisions import coverage, referral_curve, reliability, wilson_interval
from posterion.errors import DataError, OptionError
from posterion.plots import (
    new_figure,
    parameters_size,
    plot_classes,
    plot_coverage,
    plot_elbo,
    plot_labels,
    plot_parameters,
    plot_pit,
    plot_probability,
    plot_referral,
    plot_reliability,
    plot_surface,
    plot_uncertainty,
)
from posterion.plots.elbo import running_mean
from posterion.plots.style import CLASS_COLOURS

GRID = np.linspace(-3, 3, 41)
FIRST, SECOND = np.meshgrid(GRID, GRID)


def axes(width=5, height=4):
    return new_figure(width, height).subplots()


@pytest.fixture(autouse=True)
def rendered(monkeypatch):
    """Render every figure a test makes, with warnings as errors: clipped layouts and missing letters warn."""
    import posterion.plots.style as style

    made = []
    original = style.Figure

    def remember(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(style, "Figure", remember)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in made:
            figure.draw_without_rendering()


def texts(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()]


# ---- points
def test_classes_are_counted():
    labels = np.array([0, 1, 1, 0, 1])
    ax = plot_classes(
        np.arange(10.0).reshape(5, 2), labels, class_names=("no", "yes"), input_names=("a", "b"), ax=axes()
    )
    assert texts(ax) == ["no (2)", "yes (3)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


def test_labels_mark_exactly_the_mistakes():
    rng = np.random.default_rng(0)
    inputs, labels, predicted = rng.normal(size=(50, 2)), rng.integers(0, 2, 50), rng.integers(0, 2, 50)
    ax = plot_labels(inputs, labels, predicted, ax=axes())
    rings = next(c for c in ax.collections if str(c.get_label()).startswith("mistake"))
    np.testing.assert_array_equal(rings.get_offsets(), inputs[labels != predicted])
    assert f"{np.sum(labels == predicted)} of 50" in ax.get_title(loc="left")


def test_labels_without_a_mistake_have_no_rings():
    ax = plot_labels(np.eye(2), np.array([0, 1]), np.array([0, 1]), ax=axes())
    assert texts(ax) == ["predicted class 0", "predicted class 1"]


# ---- ELBO
def history(losses, comparisons=(), why="converged: it settled"):
    steps, elbo, gain_se = (np.array([c[k] for c in comparisons], float) for k in range(3))
    return xr.Dataset(
        {
            "neg_elbo": ("step", np.asarray(losses, float)),
            "elbo": ("comparison", elbo),
            "gain": ("comparison", gain_se),
            "gain_se": ("comparison", gain_se),
        },
        coords={"step": np.arange(1, len(losses) + 1), "comparison": steps.astype(int)},
        attrs={"why_it_stopped": why},
    )


def noisy(num_steps, end=114.0):
    rng = np.random.default_rng(1)
    return end + 400 * np.exp(-np.arange(num_steps) / 30) + rng.normal(0, 3, num_steps)


def test_running_mean_is_the_mean_of_its_window():
    values = np.random.default_rng(0).normal(size=23)
    values[7] = np.nan
    for width in (1, 4, 5):
        expected = [
            np.nanmean(values[max(i - width // 2, 0) : i + (width + 1) // 2]) if width > 1 else values[i]
            for i in range(23)
        ]
        np.testing.assert_allclose(running_mean(values, width), expected, rtol=1e-12)


@pytest.mark.parametrize("num_steps", [40, 1500, 50_000])
def test_elbo_shows_the_end_and_says_where_it_began(num_steps):
    losses = noisy(num_steps)
    ax = plot_elbo(history(losses, [(num_steps // 2, -115.0, 0.1), (num_steps, -114.2, 0.05)]), ax=axes())
    low, high = ax.get_ylim()
    assert low < 114.2 < high
    if num_steps > 1000:
        assert high < 200
        assert any(f"starts at {losses[0]:,.0f}" in t.get_text() for t in ax.texts)
    assert ax.get_title(loc="left") == "Converged: it settled"
    assert any(f"stop after {num_steps:,} steps" in t.get_text() for t in ax.texts)
    diamonds = next(c for c in ax.containers if str(c.get_label()).startswith("after each round"))
    np.testing.assert_allclose(diamonds[0].get_ydata(), [115.0, 114.2])
    bar = diamonds[2][0].get_segments()[1]
    np.testing.assert_allclose(np.ptp(bar[:, 1]), 4 * 0.05)


def test_elbo_of_many_steps_keeps_its_extremes():
    losses = noisy(50_001)
    losses[30_000] = 500.0
    ax = plot_elbo(history(losses), ax=axes())
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == losses.max()
    assert band[:, 1].min() == losses.min()
    assert len(band) < 5000


def test_elbo_without_steps_or_finite_values_is_still_a_picture():
    plot_elbo(history([]), ax=axes())
    ax = plot_elbo(history([np.nan, np.inf, -np.inf] * 10, why="not finite"), ax=axes())
    assert np.all(np.isfinite(ax.get_ylim()))


def test_long_sentences_are_wrapped():
    ax = plot_elbo(history(noisy(100), why="word " * 60), ax=axes())
    assert ax.get_title(loc="left").count("\n") >= 2


# ---- surfaces
def test_surface_shows_its_values_and_round_contours():
    values = np.hypot(FIRST, SECOND)
    ax = plot_surface(GRID, GRID, values, label="distance", ax=axes())
    mesh = ax.collections[0]
    np.testing.assert_allclose(mesh.get_array(), values)
    assert mesh.get_clim() == (0.0, values.max())
    assert [t.get_text() for t in ax.texts]
    assert {float(t.get_text()) for t in ax.texts} <= {1.0, 2.0, 3.0, 4.0}
    assert ax.get_aspect() == 1.0
    assert ax.figure.axes[1].get_ylabel() == "distance"


def test_constant_surface_has_no_contours():
    ax = plot_surface(GRID, GRID, np.ones_like(FIRST), ax=axes())
    assert len(ax.texts) == 0


def test_the_decision_boundary_is_where_the_probability_is_one_half():
    probability = 1 / (1 + np.exp(-3 * (FIRST - 0.7)))
    ax = plot_probability(GRID, GRID, probability, points=(np.zeros((2, 2)), np.array([0, 1])), ax=axes())
    boundary = max((c for c in ax.collections if hasattr(c, "levels")), key=lambda c: c.get_linewidth()[0])
    np.testing.assert_allclose(boundary.levels, [0.5])
    corners = np.concatenate([p.vertices for p in boundary.get_paths()])
    np.testing.assert_allclose(corners[:, 0], 0.7, atol=0.01)
    assert ax.collections[0].get_clim() == (0.0, 1.0)


def test_uncertainty_has_four_kinds_with_their_units():
    p = 1 / (1 + np.exp(-FIRST))
    parts = {"std": np.sqrt(p * (1 - p)), "mean_std": p / 10, "aleatoric": p / 2, "epistemic": p / 20}
    figure = plot_uncertainty(
        GRID, GRID, parts, points=(np.eye(2), np.array([0, 1])), class_names=("no", "yes"), figure=new_figure(8, 7)
    )
    surfaces, scales = figure.axes[:4], figure.axes[4:]
    for ax, name in zip(surfaces, ("std", "mean_std", "aleatoric", "epistemic"), strict=True):
        np.testing.assert_allclose(ax.collections[0].get_array(), parts[name])
    assert sum("nats" in scale.get_ylabel() for scale in scales) == 2
    assert surfaces[2].collections[0].get_clim() == (0.0, np.log(2))
    assert surfaces[0].get_legend() is not None and surfaces[1].get_legend() is None


# ---- calibration
def test_wilson_interval_is_scipys():
    from scipy.stats import binomtest

    for successes, trials in [(0, 4), (3, 10), (97, 100), (260, 285), (5, 5)]:
        exact = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        low, high = wilson_interval(np.array([successes]), np.array([trials]))
        np.testing.assert_allclose([low[0], high[0]], [exact.low, exact.high], atol=1e-12)


def test_reliability_shows_points_and_counts():
    rng = np.random.default_rng(0)
    probability = rng.beta(0.5, 0.5, 400)
    table = reliability(probability, (rng.uniform(size=400) < probability).astype(int))
    ax = plot_reliability(table, outcome="rain", ax=axes(5, 6))
    points = next(c for c in ax.collections if len(c.get_offsets()) == 10)
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([table.probability, table.frequency]))
    (below,) = ax.child_axes
    assert [t.get_text() for t in below.texts] == [str(n) for n in table.count]
    assert f"{table.expected_error:.3f}" in ax.get_title(loc="left")
    assert "rain" in below.get_xlabel()


def test_reliability_leaves_empty_bins_out():
    table = reliability(np.array([0.05, 0.06, 0.95]), np.array([0, 0, 1]))
    ax = plot_reliability(table, ax=axes(5, 6))
    assert len(next(c for c in ax.collections if len(c.get_offsets()) == 2).get_offsets()) == 2


def test_referral_shows_every_uncertainty_and_the_unavoidable():
    rng = np.random.default_rng(0)
    doubt = rng.uniform(0, 0.5, 400)
    wrong = (rng.uniform(size=400) < doubt).astype(float)
    curve = referral_curve(wrong, {"doubt": doubt, "noise": rng.uniform(size=400)})
    ax = plot_referral(curve, loss="error rate", ax=axes(5, 4))
    drawn = {line.get_label().partition(" (")[0]: line for line in ax.lines}
    shown = curve.isel(referred=slice(0, 381))
    np.testing.assert_allclose(drawn["doubt"].get_ydata(), shown.loss.sel(uncertainty="doubt"))
    np.testing.assert_allclose(drawn["noise"].get_xdata(), 100 * shown.referred)
    assert drawn["doubt"].get_linestyle() != drawn["noise"].get_linestyle()
    assert ax.get_title(loc="left") == "Least loss under doubt" and ax.get_ylabel() == "error rate"


def test_coverage_shows_levels_with_their_intervals():
    table = coverage(np.random.default_rng(0).uniform(0.2, 0.8, 200), levels=[0.3, 0.5, 0.9])
    ax = plot_coverage(table, ax=axes(5, 4))
    points = next(c for c in ax.collections if len(c.get_offsets()) == 3)
    np.testing.assert_allclose(points.get_offsets(), np.column_stack([table.level, table.covered]))
    assert "of 200 rows" in ax.get_title(loc="left")


# ---- parameters
def draws(**variables):
    rng = np.random.default_rng(0)
    out = {}
    for name, (dims, shape, scale) in variables.items():
        out[name] = (
            ("chain", "draw", *dims),
            scale * rng.normal(size=(2, 500, *shape)) + np.arange(np.prod(shape)).reshape(shape),
        )
    return xr.Dataset(out, coords={"layer": ["one", "two"]})


def test_pit_counts_every_row_and_tells_narrow_predictions_from_right_ones():
    random = np.random.default_rng(0)
    right, narrow = random.uniform(size=2000), random.beta(0.4, 0.4, 2000)
    outside = {}
    for name, transform in (("right", right), ("narrow", narrow)):
        ax = axes()
        plot_pit(transform, bins=10, ax=ax)
        heights = [bar.get_height() for bar in ax.patches if bar.get_width() == 0.1]
        np.testing.assert_array_equal(heights, np.histogram(transform, 10, (0, 1))[0])
        outside[name] = int(ax.get_title(loc="left").split()[0])
    assert outside["right"] <= 2  # one in twenty by chance
    assert outside["narrow"] >= 6
    with pytest.raises(DataError, match="between 0 and 1"):
        plot_pit([0.5, np.nan], ax=axes())
    with pytest.raises(OptionError, match="at least 2"):
        plot_pit([0.5], bins=1, ax=axes())


def test_parameters_show_medians_and_intervals_of_every_entry():
    posterior = draws(weights=(("layer", "unit"), (2, 3), 1.0), bias=((), (), 0.2))
    tree = xr.DataTree.from_dict({"posterior": posterior})
    figure = plot_parameters(tree, figure=new_figure(*parameters_size(tree)))
    weights, bias = figure.axes
    flat = posterior["weights"].values.reshape(1000, 6)
    medians = next(c for c in weights.collections if len(c.get_offsets()) == 6)
    np.testing.assert_allclose(medians.get_offsets()[:, 1], np.median(flat, axis=0))
    wide, narrow = [
        np.array([s[:, 1] for s in c.get_segments()])
        for c in weights.collections
        if hasattr(c, "get_segments") and np.allclose(c.get_color(), to_rgba(CLASS_COLOURS[0]))
    ]
    np.testing.assert_allclose(wide, np.quantile(flat, [0.05, 0.95], axis=0).T)
    np.testing.assert_allclose(narrow, np.quantile(flat, [0.25, 0.75], axis=0).T)
    assert [t.get_text() for t in weights.get_xticklabels()] == ["0", "1", "2"] * 2
    assert weights.get_xlabel() == "unit"
    assert {t.get_text().removeprefix("layer ") for t in weights.texts} == {"one", "two"}
    assert (weights.get_title(loc="left"), bias.get_title(loc="left")) == ("weights", "bias")


def test_many_entries_are_drawn_as_sorted_bands():
    posterior = draws(many=(("k",), (300,), 0.5))
    figure = plot_parameters(posterior, figure=new_figure(*parameters_size(posterior)))
    (ax,) = figure.axes
    (line,) = [found for found in ax.lines if len(found.get_ydata()) == 300]
    assert np.all(np.diff(line.get_ydata()) >= 0)
    assert "300 entries" in ax.get_xlabel()


def test_scales_that_differ_get_axes_of_their_own_and_wide_variables_their_own_line():
    posterior = draws(a=((), (), 100.0), b=((), (), 0.01), c=(("k",), (40,), 1.0), d=(("j",), (40,), 1.0))
    size = parameters_size(posterior)
    assert size[1] > 2 * parameters_size(posterior, var_names=["c"])[1]
    figure = plot_parameters(posterior, figure=new_figure(*size))
    a, b = figure.axes[:2]
    assert np.ptp(a.get_ylim()) > 1000 * np.ptp(b.get_ylim())
    group = xr.DataTree.from_dict({"posterior": posterior})["posterior"]
    alone = plot_parameters(group, var_names=["b"], figure=new_figure(3, 3))
    assert [ax.get_title(loc="left") for ax in alone.axes] == ["b"]


def test_a_variable_that_does_not_vary_is_drawn():
    constant = xr.Dataset({"k": (("chain", "draw"), np.ones((1, 100)))})
    plot_parameters(constant, figure=new_figure(3, 3))
