"""Substitution keeps track of what became of what."""

import pytest

pytest.importorskip("pymc")

import numpy as np
import pytensor.tensor as pt

from posterion.frontends.pymc.substitute import ancestors, substitute


def test_shared_parts_stay_shared():
    """`clone_replace` called for two outputs apart would make two random variables of one."""
    x, y = pt.scalar("x"), pt.vector("y", shape=(4,))
    rv = pt.random.normal(x, 1, rng=pt.random.shared_rng(seed=0), return_next_rng=True)[1]
    one, two = rv + 1, rv * 2
    new = substitute([one, two], {x: y})
    assert new[one].type.shape == (4,)
    assert new[rv] in ancestors([new[one]])
    assert new[rv] in ancestors([new[two]])
    assert rv not in ancestors([new[one], new[two]])


def test_untouched_parts_are_not_rebuilt():
    x, y = pt.scalar("x"), pt.scalar("y")
    left, right = pt.exp(x), pt.exp(y)
    out = left + right
    new = substitute([out], {y: pt.constant(2.0)})
    assert new[left] is left
    assert new[out] is not out
    np.testing.assert_allclose(new[out].eval({x: 0.0}), 1 + np.exp(2.0))


def test_adjust_sees_the_rebuilt_variable_and_stands_in_its_place():
    x, y = pt.scalar("x"), pt.scalar("y")
    inner = pt.exp(x)
    out = inner + 1
    new = substitute([out], {x: y}, {inner: lambda v: 3 * v})
    np.testing.assert_allclose(new[out].eval({y: 0.0}), 4.0)


def test_a_memo_can_be_carried_on():
    x, y = pt.scalar("x"), pt.scalar("y")
    inner = pt.exp(x)
    memo = substitute([inner], {x: y})
    out = inner + 1
    assert memo[inner] in ancestors([substitute([out], memo)[out]])


def test_ancestors_may_stop_at_shapes():
    x = pt.vector("x")
    out = pt.zeros(x.shape[0]) + 1
    assert x in ancestors([out])
    assert x not in ancestors([out], shapes_too=False)
    assert x not in ancestors([out], stop={out})
