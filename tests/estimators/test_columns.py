"""Columns as inputs: numbers in pieces, and how much a network makes of each column."""

import numpy as np

from posterion.estimators.columns import HEAVY, Columns
from posterion.estimators.kronecker import KroneckerMode, curvature, relevances
from posterion.estimators.likelihoods import StudentT
from posterion.estimators.network import Network


def pieces_of(x: np.ndarray, weights: np.ndarray | None = None) -> Columns:
    weights = np.ones(len(x)) if weights is None else weights
    return Columns.of(x, weights, codes=True).in_pieces(x, weights)


def test_pieces_meet_at_quantiles_and_add_up_to_the_way_between_the_ends():
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(2000, 1))
    columns = pieces_of(x)
    edges = columns.edges[0]
    share = np.diff([np.mean(x <= edge) for edge in edges])
    np.testing.assert_allclose(share, 1 / len(share), atol=1e-3)
    inputs = columns.inputs(np.array([[x.min()], [edges[3]], [x.max()], [1e6]]))[:, 1:] + 0.5
    np.testing.assert_allclose(inputs.sum(axis=1), [0, 3, len(share), len(share)])
    assert columns.features == 1 + len(share)


def test_a_value_of_many_rows_is_an_edge_and_the_others_have_quantiles_of_their_own():
    rng = np.random.default_rng(1)
    x = np.where(rng.random((2000, 1)) < 2 * HEAVY, 0.0, rng.normal(3.0, 1.0, size=(2000, 1)))
    edges = pieces_of(x).edges[0]
    assert 0.0 in edges
    assert len(edges) > 20
    assert np.median(edges) > 2.5


def test_two_values_and_categories_have_no_pieces():
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.integers(0, 2, 500), rng.integers(0, 5, 500), rng.normal(size=500)]).astype(float)
    assert pieces_of(x).pieced == (2,)


def test_neither_order_nor_weights_in_place_of_repetitions_matter():
    rng = np.random.default_rng(3)
    x, weights = rng.normal(size=(300, 2)), rng.integers(1, 4, 300).astype(float)
    repeated = np.repeat(x, weights.astype(int), axis=0)
    for other in (pieces_of(repeated), pieces_of(repeated[rng.permutation(len(repeated))])):
        for mine, theirs in zip(pieces_of(x, weights).edges, other.edges, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_relevance_is_mackays_update_of_the_columns_own_scales():
    """One linear layer, where Kronecker factors are exact: against the dense posterior covariance."""
    rng = np.random.default_rng(4)
    x, origins = rng.normal(size=(60, 4)), np.array([7, 3, 7, 3])
    network, weights, alpha = Network(4, (), 1), rng.normal(size=5), 2.5
    mode: KroneckerMode = curvature(
        network, StudentT(0.5), weights, x, np.ones(60), rows=60.0, precisions=np.array([alpha])
    )
    design = np.column_stack([x, np.ones(60)])
    covariance = np.linalg.inv(design.T @ design / 0.5 + alpha * np.eye(5))
    for origin in (3, 7):
        own = np.flatnonzero(origins == origin)
        determined = len(own) - alpha * np.trace(covariance[np.ix_(own, own)])
        expected = np.sqrt(alpha * (weights[own] ** 2).sum() / determined)
        np.testing.assert_allclose(relevances(network, mode, origins)[own], np.clip(expected, 0.1, 4), rtol=2e-3)


def test_every_input_has_an_origin():
    rng = np.random.default_rng(5)
    skewed = np.where(rng.random(500) < 0.5, 0.0, np.exp(2 * rng.normal(size=500)))
    x = np.column_stack([skewed, np.ones(500), rng.integers(0, 5, 500), rng.normal(size=500)])
    columns = pieces_of(x)
    assert len(columns.origins) == columns.features == columns.inputs(x).shape[1]
    moved = x.copy()
    moved[:, 0] = 1.0
    changed = np.any(columns.inputs(moved) != columns.inputs(x), axis=0)
    np.testing.assert_array_equal(np.unique(columns.origins[changed]), [0])


def test_indicators_of_somebody_else_leave_the_numbers_their_pieces():
    random = np.random.default_rng(0)
    labels = np.eye(110)[random.integers(110, size=4000)]
    looked = pieces_of(np.column_stack([random.standard_normal(4000), labels]))
    assert looked.pieced == (0,)
    assert len(looked.edges[0]) == 33


def test_no_square_of_a_value_overflows_or_vanishes():
    x = np.random.default_rng(6).normal(size=(200, 2))
    outlier, tiny = x.copy(), x * [1.0, 1e-165]
    outlier[0] = 1e200, 1.7e308
    inputs = Columns.of(outlier, np.ones(200), codes=True).inputs(outlier)
    assert np.all(np.isfinite(inputs)) and np.corrcoef(inputs[1:, 0], x[1:, 0])[0, 1] > 0.9
    assert inputs[1:, 0].std() > 0.01
    without = Columns.of(outlier, np.r_[0.0, np.ones(199)], codes=True)
    np.testing.assert_allclose(without.scale, x[1:].std(axis=0))
    np.testing.assert_allclose(*(Columns.of(each, np.ones(200), codes=True).inputs(each) for each in (x, tiny)))


def test_codes_that_half_the_precision_cannot_tell_apart_have_indicators_of_their_own():
    x = 2.0**30 + np.repeat(np.arange(4.0), 50)[:, None]
    columns = Columns.of(x, np.ones(200), codes=True)
    assert np.all(columns.inputs(x)[:, 1:].sum(axis=1) == 1)
