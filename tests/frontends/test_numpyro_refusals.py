"""NumPyro models and arguments that cannot be fitted rightly: refused by name, with what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import posterion as po
from posterion.errors import DataError, OptionError, UnsupportedModelError
from posterion.frontends.numpyro import from_numpyro
from posterion.frontends.numpyro.call import Call
from tests.frontends import numpyro_cases as cases
from tests.frontends.numpyro_cases import CASES, LINE, X

STANDARD = dist.Normal(0, 1)


def linear(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)


def test_arguments_that_do_not_fit_are_explained():
    with pytest.raises(DataError, match=r"linear\(x, y=None\) lacks its argument 'x': pass model_args"):
        po.fit(linear)
    with pytest.raises(DataError, match=r"radon\(.*\) lacks its arguments 'num_counties', 'floor'"):
        po.fit(cases.radon, model_args=(cases.GROUPS,))
    with pytest.raises(DataError, match=r"linear\(x, y=None\) does not take these arguments: .*'z'"):
        po.fit(linear, model_args=(X,), model_kwargs={"z": 1})
    with pytest.raises(OptionError, match=r"a single one is written model_args=\(x,\)"):
        Call(linear, X)
    with pytest.raises(OptionError, match="a NumPyro model function is called with; NumPyroTarget takes none"):
        po.fit(from_numpyro(linear, (X[:, 0], LINE)), model_args=(X,))
    with pytest.raises(DataError, match="'x' holds text"):
        po.fit(linear, model_args=(np.array(["a", "b"]), LINE[:2]))
    with pytest.raises(DataError, match=r"'y' has 1 missing \(NaN\) value, the first in row 3"):
        po.fit(linear, model_args=(X[:6, 0], np.array([0, 1, 2, np.nan, 4, 5])))
    with pytest.raises(DataError, match="'x' has columns that are not numbers: 'name'"):
        import pandas as pd

        po.fit(linear, model_args=(pd.DataFrame({"a": [1.0], "name": ["x"]}), LINE[:1]))


def test_what_is_not_a_model_is_explained():
    with pytest.raises(UnsupportedModelError, match="cannot fit builtins.int: expected a PyMC model, a NumPyro model"):
        po.fit(3)
    with pytest.raises(UnsupportedModelError, match="cannot fit builtins.type"):
        po.fit(dict)
    with pytest.raises(UnsupportedModelError, match="has no numpyro.sample statement.*posterion.log_density"):
        po.fit(lambda x: jnp.sum(x), model_args=(X,))


def test_models_without_unknowns_or_observations_are_explained():
    with pytest.raises(UnsupportedModelError, match="linear has nothing observed.*Was the outcome left at None"):
        po.fit(linear, model_args=(X[:, 0],))
    with pytest.raises(UnsupportedModelError, match="has no unknowns"):
        po.fit(lambda y: numpyro.sample("y", dist.Normal(0, 1), obs=y), model_args=(LINE,))


def test_discrete_unknowns_are_refused_by_name():
    def counts(y):
        number = numpyro.sample("number", dist.Poisson(3.0))
        numpyro.sample("y", dist.Normal(number, 1), obs=y)

    with pytest.raises(
        UnsupportedModelError, match="'number' is a discrete unknown .Poisson. whose values cannot be listed"
    ):
        po.fit(counts, model_args=(LINE,))


def test_parameters_without_a_prior_are_refused_by_name():
    def model(y):
        slope = numpyro.param("slope", 0.0)
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(slope + level, 1), obs=y)

    with pytest.raises(UnsupportedModelError, match="numpyro.param 'slope' has no prior"):
        from_numpyro(model, (LINE,))
    lifted = handlers.lift(model, prior={"slope": dist.Normal(0, 2)})
    assert [v.name for v in from_numpyro(lifted, (LINE,)).layout.variables] == ["slope", "level"]


def test_masked_unknowns_are_refused_by_name():
    def model(used, y):
        with numpyro.plate("row", len(y)), handlers.mask(mask=used):
            level = numpyro.sample("level", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(level, 1), obs=y)

    with pytest.raises(UnsupportedModelError, match="'level' is masked: entries that a mask switches off"):
        from_numpyro(model, (cases.GROUPS > 2, LINE))


def test_supports_without_a_map_are_refused_by_name():
    def model(y):
        direction = numpyro.sample("direction", dist.ProjectedNormal(jnp.ones(3)))
        numpyro.sample("y", dist.Normal(direction[0], 1), obs=y)

    with pytest.raises(UnsupportedModelError, match="support of 'direction'"):
        from_numpyro(model, (LINE,))


def test_a_branch_on_a_random_variable_is_explained():
    def model(y):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(level if level > 0 else 0.0, 1), obs=y)

    with pytest.raises(UnsupportedModelError, match=r"an `if` on a random variable \(use jnp.where\)"):
        from_numpyro(model, (LINE,))


def test_batches_of_latent_rows_are_refused():
    case = CASES["eight_schools"]
    with pytest.raises(UnsupportedModelError, match="'raw' has one entry per row"):
        po.fit(case.model, model_args=case.args, model_kwargs=case.kwargs, batch_size=4)


def test_arguments_are_named_as_they_are_written():
    def model(batch, *rest, scale=1.0, prior=None, **more):
        """Never run."""

    data = {"x": X, "y": [LINE, np.ones(2)]}
    call = Call(
        model, (data, np.arange(3)), {"prior": dist.Normal(jnp.zeros(2), 1), "offset": LINE, "key": jax.random.key(0)}
    )
    assert list(call.arrays) == ["x", "batch.y.0", "batch.y.1", "rest.0", "offset"]
    clash = Call(lambda x, data: None, (X, {"x": LINE}))
    assert list(clash.arrays) == ["x", "data.x"]


def test_numbers_and_containers_stay_as_they_are():
    seen = []

    def model(x, layers, name, flag, y=None):
        seen.append((type(layers), layers, name, flag, x.shape))
        weight = numpyro.sample("weight", dist.Normal(0, 1).expand([layers[0]]).to_event(1))
        numpyro.sample("y", dist.Normal(x[:, 0] * weight.sum(), 1), obs=y)

    import pandas as pd

    target = from_numpyro(model, (pd.DataFrame(X), (3, 2), "tanh", True), {"y": pd.Series(LINE)})
    assert seen[0] == (tuple, (3, 2), "tanh", True, (60, 2))
    assert set(target.slots) == {"x", "y"}
    assert target.data["x"].shape == (60, 2)


def flax_model():
    linen = pytest.importorskip("flax.linen")
    from numpyro.contrib.module import random_flax_module

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.tanh(linen.Dense(3)(x)))[..., 0]

    def model(x, y=None, prior=STANDARD):
        net = random_flax_module("net", Net(), prior, input_shape=(2,))
        with numpyro.plate("row", x.shape[0]):
            numpyro.sample("y", dist.Normal(net(x), 1.0), obs=y)

    return model


def nnx_model():
    nnx = pytest.importorskip("flax.nnx")
    from numpyro.contrib.module import random_nnx_module

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.tanh(self.first(x)))[..., 0]

    module = Net(nnx.Rngs(0))

    def model(x, y=None, prior=STANDARD):
        net = random_nnx_module("net", module, prior)
        with numpyro.plate("row", x.shape[0]):
            numpyro.sample("y", dist.Normal(net(x), 1.0), obs=y)

    return model


def equinox_model():
    equinox = pytest.importorskip("equinox")
    from numpyro.contrib.module import random_eqx_module

    module = equinox.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(0))

    def model(x, y=None, prior=STANDARD):
        net = random_eqx_module("net", module, prior)
        with numpyro.plate("row", x.shape[0]):
            numpyro.sample("y", dist.Normal(jax.vmap(net)(x), 1.0), obs=y)

    return model


@pytest.mark.parametrize("make", [flax_model, nnx_model, equinox_model])
def test_random_modules_are_taken_over(make):
    """One entry per weight with a prior, NumPyro's density, rows; no weight without a prior."""
    from numpyro.infer.util import potential_energy

    model = make()
    target = from_numpyro(model, (X, LINE))
    assert target.layout.size == 13
    assert target.row_plan().num_rows == 60
    with jax.enable_x64(True):
        z = jnp.asarray(np.random.default_rng(0).standard_normal(13))
        value = jax.jit(target.log_density)(z, target.as_arrays(target.data))
        seeded = handlers.seed(model, 0)
        theirs = jax.jit(
            lambda z: -potential_energy(seeded, (jnp.asarray(X), jnp.asarray(LINE)), {}, target.layout.unravel(z))
        )(z)
    np.testing.assert_allclose(value, theirs, rtol=1e-10)
    first = target.layout.variables[0].name.removeprefix("net/")
    with pytest.raises(UnsupportedModelError, match=r"numpyro.param 'net\$params' has no prior"):
        from_numpyro(model, (X, LINE), {"prior": {first: dist.Normal(0, 1)}})


def test_dropout_is_refused_and_batch_normalisation_not_batched():
    linen = pytest.importorskip("flax.linen")
    from numpyro.contrib.module import random_flax_module

    class Net(linen.Module):
        kind: str

        @linen.compact
        def __call__(self, x):
            x = linen.Dense(3)(x)
            if self.kind == "dropout":
                return linen.Dropout(0.5, deterministic=False)(x)[..., 0]
            return linen.BatchNorm(use_running_average=False)(x)[..., 0]

    def model(x, y, kind):
        if kind == "dropout":
            net = random_flax_module("net", Net(kind), dist.Normal(0, 1), input_shape=(2, 2), apply_rng=["dropout"])
            mean = net(x, rngs={"dropout": numpyro.prng_key()})
        else:
            net = random_flax_module("net", Net(kind), dist.Normal(0, 1), input_shape=(2, 2), mutable=["batch_stats"])
            mean = net(x)
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    with pytest.raises(UnsupportedModelError, match="draws random numbers by itself .numpyro.prng_key: dropout"):
        from_numpyro(model, (X, LINE, "dropout"))
    target = from_numpyro(model, (X, LINE, "norm"))
    assert "'net$state' keeps its state as it is" in target.notes
    with pytest.raises(UnsupportedModelError, match="depend on each other"):
        target.row_plan()
