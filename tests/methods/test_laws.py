"""Laws every method obeys: a posterior in closed form, the same bits by the same seed, and on to the same bits."""

import numpy as np
import pytest

import posterion as po
from posterion.errors import OptionError
from posterion.methods import AbstractLoopMethod
from posterion.methods.names import METHODS, method_of
from tests.methods.targets import exact, fit, regression

MEAN, COVARIANCE, _ = exact()
SD = np.sqrt(np.diag(COVARIANCE))
INDEPENDENT = 1 / np.sqrt(np.diag(np.linalg.inv(COVARIANCE)))
NONE = np.zeros(3)

SPREADS = {
    "advi": INDEPENDENT,
    "auto": SD,
    "fullrank_advi": SD,
    "lowrank_advi": SD,
    "bam": SD,
    "dadvi": SD,
    "gaussian": SD,
    "laplace": SD,
    "ivon": INDEPENDENT,
    "map": NONE,
    "pathfinder": SD,
    "svgd": None,
    "swag": None,
    "linearised_laplace": None,
    "variational_last_layer": None,
}
"""By method the spread it must find; None where it is no more than a heuristic, or it takes a network (own tests)."""
_OPTIONS = {"swag": {"batch_size": 10}}
_OF_STEPS = [name for name in METHODS if isinstance(method_of(name), AbstractLoopMethod)]
_DRAWS = 4000
_LONG = ("advi", "fullrank_advi", "lowrank_advi")
"""Methods whose programs take seconds to compile, and whose laws other tests look at as well."""


def cases(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in _LONG else name for name in names]


def test_every_method_is_here():
    assert set(SPREADS) == set(METHODS)


@pytest.mark.parametrize("name", cases(name for name, spread in SPREADS.items() if spread is not None))
def test_conjugate_regression_to_the_same_bits_by_the_same_seed(name):
    approx, again = fit(regression(), name), fit(regression(), name)
    draws = approx.sample_unconstrained(_DRAWS)
    np.testing.assert_array_equal(draws, again.sample_unconstrained(_DRAWS))
    # Stopped within 0.1 nats of its optimum, a mean may be off by sqrt(2 * 0.1) of the family's sds.
    spread = SPREADS[name]
    off = np.abs(draws.mean(axis=0) - MEAN)
    assert np.all(off < np.sqrt(2 * 0.1) * INDEPENDENT + 4 * SD / np.sqrt(_DRAWS))
    np.testing.assert_allclose(draws.std(axis=0), spread, rtol=0.15, atol=1e-9)
    if spread is NONE:
        assert not approx.diagnose().trustworthy


@pytest.mark.parametrize("name", cases(_OF_STEPS))
def test_on_to_the_same_bits_from_a_checkpoint(name, tmp_path):
    options = {"n": 600, **_OPTIONS.get(name, {})}
    whole = fit(regression(), name, **options)

    class Stop:
        every = 200

        def __call__(self, progress):
            raise StopIteration

    cut = fit(regression(), name, checkpoint=tmp_path, callbacks=[Stop()], **options)
    assert cut.record.steps < 600
    assert not np.array_equal(cut.sample_unconstrained(10), whole.sample_unconstrained(10))
    np.testing.assert_array_equal(
        fit(regression(), name, checkpoint=tmp_path, **options).sample_unconstrained(10), whole.sample_unconstrained(10)
    )


@pytest.mark.parametrize("name", [name for name in METHODS if name not in (*_OF_STEPS, "auto")])
def test_methods_that_solve_in_one_go_have_nothing_to_resume(name, tmp_path):
    with pytest.raises(OptionError, match="checkpoint= with a direct method"):
        po.fit(regression(), name, checkpoint=tmp_path, progress=False)
