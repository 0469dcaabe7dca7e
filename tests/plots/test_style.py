"""The look: colours that everybody tells apart, and settings that are given back."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from posterion.plots import look, new_figure
from posterion.plots.style import (
    CLASS_COLOURS,
    CLASS_MARKS,
    PROBABILITY_MAP,
    UNCERTAINTY_MAP,
    axes_for,
    draw_class_points,
)

# Machado, Oliveira and Fernandes (2009), severity 1.0, for linear RGB.
COLOUR_VISION = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear RGB; a distance of 2 is just noticeable."""
    xyz = XYZ @ np.clip(rgb, 0, 1) / (XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_the_first_two_classes_differ_in_every_colour_vision(vision):
    seen = [lab(np.array(COLOUR_VISION[vision]) @ linear(colour)) for colour in CLASS_COLOURS[:2]]
    assert np.linalg.norm(seen[0] - seen[1]) > 40


def test_every_class_has_a_mark_of_its_own():
    assert len(set(CLASS_MARKS)) == len(CLASS_MARKS) == len(set(CLASS_COLOURS)) == len(CLASS_COLOURS)


def test_uncertainty_gets_darker_all_the_way():
    lightness = [lab(linear(UNCERTAINTY_MAP(x)))[0] for x in np.linspace(0, 1, 50)]
    assert np.all(np.diff(lightness) < 0)


def test_probability_is_lightest_at_one_half_and_its_ends_differ():
    lightness = [lab(linear(PROBABILITY_MAP(x)))[0] for x in np.linspace(0, 1, 101)]
    assert np.argmax(lightness) in (49, 50, 51)
    for vision in COLOUR_VISION.values():
        ends = [lab(np.array(vision) @ linear(PROBABILITY_MAP(x))) for x in (0.1, 0.9)]
        assert np.linalg.norm(ends[0] - ends[1]) > 40


def test_look_gives_settings_back():
    before = dict(matplotlib.rcParams)
    with look():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_given_axes_are_used_and_new_ones_are_shown():
    from matplotlib import pyplot

    given = new_figure(3, 2).subplots()
    assert axes_for(given, 5, 5) is given
    assert pyplot.get_fignums() == []
    made = axes_for(None, 5, 4)
    assert pyplot.get_fignums() == [made.figure.number]
    assert np.allclose(made.figure.get_size_inches(), (5, 4))


def test_classes_are_told_by_mark_and_filling():
    ax = new_figure(3, 3).subplots()
    draw_class_points(ax, np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3, ["a", "b", "c"])
    points = ax.collections
    assert [len(p.get_offsets()) for p in points] == [10, 10, 10]
    assert [p.get_label() for p in points] == ["a", "b", "c"]
    for one, other in itertools.combinations(points, 2):
        paths = [p.get_paths()[0].vertices for p in (one, other)]
        assert paths[0].shape != paths[1].shape or not np.allclose(*paths)
    assert not np.allclose(points[0].get_facecolor(), points[1].get_facecolor())
