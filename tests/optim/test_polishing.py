"""Natural-gradient steps: both ways to solve for one, and where they lead."""

import numpy as np
import pytest

from posterion.optim.algorithm import Algorithm
from posterion.optim.comparing import Comparer
from posterion.optim.polishing import _direction, polish

MEAN, SD = 3.0, 2.0


def test_the_system_is_the_same_in_the_space_of_the_draws():
    rng = np.random.default_rng(0)
    scores, gradient = rng.normal(size=(8, 20)), rng.normal(size=20)
    centred = (scores - scores.mean(0)) / np.sqrt(8)
    expected = -np.linalg.solve(centred.T @ centred + 0.1 * np.eye(20), gradient)
    np.testing.assert_allclose(_direction(gradient, scores, 0.1), expected, rtol=1e-10)
    many = np.concatenate([scores] * 5)  # the same information, more draws than parameters
    np.testing.assert_allclose(_direction(gradient, many, 0.1), expected, rtol=1e-10)


def values(states, noise, count, seed):
    """log p - log q of normals (mean, log sd) against one of `MEAN` and `SD`."""
    draws = [np.exp(state[1]) * noise + state[0] for state in states]
    scaled = np.stack([(z - MEAN) / SD for z in draws])
    return -0.5 * scaled**2 - np.log(SD) + 0.5 * noise**2 + np.array([state[1] for state in states])[:, None]


ALGORITHM = Algorithm(
    noise=None,
    step=None,
    restart=None,
    evaluate=None,
    host_noise=lambda seed, draws, quasi: np.random.default_rng(seed).standard_normal(draws),
    noise_values_per_step=1,
    iterate=lambda state: state,
    with_iterate=lambda state, params: np.asarray(params),
)


def slopes(state, noise):
    """By hand, what `ADVI` differentiates: the gradient along the path, and the scores of q."""
    sd = np.exp(state[1])
    pull = -(sd * noise + state[0] - MEAN) / SD**2 + noise / sd
    gradient = -np.array([pull.mean(), (pull * sd * noise).mean()])
    return values([state], noise, len(noise), 0)[0], gradient, np.stack([noise / sd, noise**2 - 1], axis=1)


def polished(start, slopes=slopes):
    return polish(ALGORITHM, np.asarray(start), slopes, Comparer(ALGORITHM, values, 1, 256), 2)


def test_steps_lead_to_the_posterior_and_end_where_nothing_is_gained():
    found = polished([0.0, -1.0])
    np.testing.assert_allclose(found.state, [MEAN, np.log(SD)], atol=1e-3)
    kl = np.log(SD) + 1 + (np.exp(-2) + MEAN**2) / (2 * SD**2) - 0.5
    assert found.gain == pytest.approx(kl, rel=0.2)
    assert found.steps < 60


def test_what_cannot_be_bettered_stays_and_an_interruption_keeps_the_start():
    exact = polished([MEAN, np.log(SD)])
    np.testing.assert_allclose(exact.state, [MEAN, np.log(SD)], atol=1e-6)
    calls = []

    def interrupted(state, noise):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return slopes(state, noise)

    start = [0.0, -1.0]
    np.testing.assert_array_equal(polished(start, interrupted).state, start)
