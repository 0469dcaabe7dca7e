"""The stop rule on targets whose best ELBO is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion._typing import Batch
from posterion.compilation.cache import Program
from posterion.data.batches import AllRows
from posterion.errors import OptionError
from posterion.methods import ADVI
from posterion.optim.convergence import Comparer, Rounds, Status, run_fixed, run_rounds
from posterion.optim.loop import Loop, advance
from posterion.optim.progress import Silent
from posterion.target import Layout, Variable

DIM = 8
LAYOUT = Layout((Variable("v", (DIM,), (DIM,)),))


def correlated(rho=0.9):
    """A normalised Gaussian with pairwise correlated entries; its best mean-field ELBO has a closed form."""
    covariance = np.kron(np.eye(DIM // 2), [[1, rho], [rho, 1]])
    precision = jnp.asarray(np.linalg.inv(covariance))
    constant = -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    best = 0.25 * DIM * np.log(1 - rho**2)  # minus KL of the factors: sum of log(1 - rho^2) / 2 per pair
    return (lambda z, batch: constant - 0.5 * z @ precision @ z), best


def setting(log_joint, reporter=None):
    method = ADVI()
    algorithm = method.algorithm(log_joint, LAYOUT)
    stream = AllRows({"unused": jnp.zeros(1)})
    loop = Loop(algorithm, Program(advance(algorithm, stream)), stream, reporter or Silent())
    program = Program(algorithm.evaluate)
    evaluate = lambda states, noise, count, seed: np.stack(
        [np.asarray(program(state, noise, Batch({}), np.int32(count))[0]) for state in states]
    )
    compare = Comparer(algorithm, evaluate, 0, 512)
    start = lambda at: method.start(
        LAYOUT, jax.random.key(0), jnp.full(DIM, float(at)), 0.1, jnp.zeros(DIM), jnp.ones(DIM)
    )
    return loop, compare, start


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("seed", range(3))
def test_stops_by_itself_near_the_best_elbo(seed):
    log_joint, best = correlated()
    loop, compare, start = setting(log_joint)
    outcome = run_rounds(loop, [start(3.0)], compare, seed, Rounds(), 0.1)
    assert outcome.status is Status.CONVERGED
    assert "gained" in outcome.sentence
    elbo = compare([outcome.state])[0].mean()
    assert best - 0.25 < elbo < best + 0.02
    rounds = [1000 * 2**k for k in range(len(outcome.comparisons))]
    assert outcome.losses.size == sum(rounds) + rounds[-1]  # the last one is followed by one to settle
    assert outcome.comparisons[-2].gain < 0.1


def test_tournament_takes_the_better_start():
    def two_modes(z, batch):  # a high narrow mode at 0 and a lower one at 20, far apart
        return jnp.logaddexp(-0.5 * jnp.sum(z**2), -0.5 * jnp.sum((z - 20) ** 2) - 30)

    loop, compare, start = setting(two_modes)
    for starts in ([start(20.0), start(0.5)], [start(0.5), start(20.0)]):
        outcome = run_rounds(loop, starts, compare, 0, Rounds(), 0.1)
        assert float(jnp.max(jnp.abs(outcome.state.params[0]))) < 1


def test_says_so_when_the_limit_comes_first():
    loop, compare, start = setting(correlated()[0])
    rule = Rounds(tolerance=1e-9, max_steps=3000)
    outcome = run_rounds(loop, [start(30.0)], compare, 0, rule, 0.1)
    assert outcome.status is Status.MAX_STEPS
    assert "3,000" in outcome.sentence
    assert outcome.losses.size == 3000


def test_fixed_steps_are_exact_and_divergence_is_noticed():
    loop, compare, start = setting(correlated()[0])
    outcome = run_fixed(loop, start(1.0), compare, 0, 1234, 0.1)
    assert outcome.status is Status.FIXED_STEPS
    assert outcome.losses.size == 1234

    loop, compare, start = setting(lambda z, batch: jnp.sum(jnp.cosh(z)))  # improper: runs away
    outcome = run_fixed(loop, start(1.0), compare, 0, 5000, 1.0)
    assert outcome.status in (Status.DIVERGED, Status.NON_FINITE, Status.FIXED_STEPS)
    if outcome.status is Status.FIXED_STEPS:  # it may also climb for ever: then the ELBO must have grown
        assert outcome.losses[-1] < outcome.losses[0]


def test_a_worse_round_is_thrown_away():
    loop, compare, start = setting(correlated()[0])
    good = run_rounds(loop, [start(0.5)], compare, 0, Rounds(), 0.1).state
    real = loop.run

    def spoil(state, *arguments, **options):
        round_ = real(state, *arguments, **options)
        worse = state._replace(params=state.params + 3.0)
        return round_.__class__(worse, round_.steps, round_.losses, 0)

    reference = compare([good])[0].mean()
    loop.run = lambda state, key, steps, peak, **o: (
        spoil(state, key, steps, peak, **o) if steps > 1000 else real(state, key, steps, 1e-9, **o)
    )
    outcome = run_rounds(loop, [good], compare, 0, Rounds(), 0.1)
    assert outcome.status is Status.CONVERGED
    assert "nothing" in outcome.sentence
    assert compare([outcome.state])[0].mean() == pytest.approx(reference, abs=0.05)


def test_evaluation_draws_are_fresh_each_time():
    loop, compare, start = setting(correlated()[0])
    state = start(1.0)
    assert not np.array_equal(compare([state]), compare([state]))
    both = compare([state, state])
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"tolerance": -1.0}, {"first": 0}, {"num_draws": 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(OptionError):
        Rounds(**options)
