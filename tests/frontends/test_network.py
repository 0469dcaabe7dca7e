"""Networks as targets: densities written by hand, every library's modules, priors, likelihoods, and what is refused."""

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from flax import nnx
from scipy import stats

import posterion as po
from posterion.errors import DataError, OptionError, UnsupportedModelError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)
LINE = X @ [1.0, -0.5] + 0.3 * RNG.normal(size=40)
HIDDEN = 3


class Nnx(nnx.Module):
    def __init__(self, outputs=1, *, dropout=0.0, norm=None, shared=False):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(2, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, outputs, rngs=rngs)])
        self.again = self.layers[0] if shared else None
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.norm = norm(HIDDEN, rngs=rngs) if norm else None

    def __call__(self, x):
        hidden = jnp.tanh(self.layers[0](x))
        if self.again is not None:
            hidden = hidden + jnp.tanh(self.again(-x))
        if self.norm is not None:
            hidden = self.norm(hidden)
        return self.layers[1](self.dropout(hidden))


class Linen(linen.Module):
    norm: bool = False

    @linen.compact
    def __call__(self, x, train: bool = True):
        hidden = linen.Dense(HIDDEN, name="first")(x)
        if self.norm:
            hidden = linen.BatchNorm(use_running_average=not train, name="norm")(hidden)
        hidden = linen.Dropout(0.5, deterministic=not train)(jnp.tanh(hidden))
        return linen.Dense(1, name="last")(hidden)


PAIR = (
    lambda key, x: {
        "first": jax.random.normal(key, (x.shape[1], HIDDEN)),
        "last": [jnp.zeros(1), jax.random.normal(key, (HIDDEN, 1))],
    },
    lambda p, x: jnp.tanh(x @ p["first"]) @ p["last"][1] + p["last"][0],
)
MODULES = {
    "nnx": Nnx(),
    "linen": Linen(),
    "equinox": eqx.nn.MLP(2, 1, HIDDEN, 1, activation=jnp.tanh, key=jax.random.key(0)),
    "pair": PAIR,
}
MATRICES = {
    "nnx": ("layers.0.kernel", "layers.0.bias", "layers.1.kernel", "layers.1.bias"),
    "linen": ("first.kernel", "first.bias", "last.kernel", "last.bias"),
    "equinox": ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"),
    "pair": ("first", None, "last.1", "last.0"),
}


def density(target, z, x64=True):
    with jax.enable_x64(x64):
        return np.asarray(jax.jit(target.log_density)(jnp.asarray(z, float), target.as_arrays(target.data)))


def by_name(target, z):
    with jax.enable_x64(True):
        return {k: np.asarray(v) for k, v in jax.jit(lambda z: target.constrain(z, {}))(jnp.asarray(z)).items()}


def hand_written(library, values, x):
    first, bias, last, shift = (None if name is None else values[name] for name in MATRICES[library])
    if library == "equinox":
        first, last = first.T, last.T
    return np.tanh(x @ first + (0 if bias is None else bias)) @ last[:, 0] + shift[0]


@pytest.mark.parametrize("library", MODULES)
def test_the_density_is_the_one_written_by_hand(library):
    """Default prior and a Normal with learned noise, at random points, in both precisions."""
    target = po.network(MODULES[library], data={"x": X, "y": LINE})
    z = 0.5 * np.random.default_rng(1).standard_normal(target.layout.size)
    values, free = by_name(target, z), target.layout.slices
    expected = stats.lognorm.logpdf(values["y_noise"], 1.0, scale=np.exp(-1.0)) + z[free["y_noise"]][0]
    for position, name in enumerate(MATRICES[library]):
        if name is None:
            continue
        if position % 2:  # biases
            expected += stats.norm.logpdf(values[name]).sum()
            continue
        fan_in, tau = (2 if position == 0 else HIDDEN), values[f"{name}_scale"]
        expected += stats.lognorm.logpdf(tau, 1.0) + z[free[f"{name}_scale"]][0]
        expected += stats.norm.logpdf(values[name], 0, tau / np.sqrt(fan_in)).sum()
    expected += stats.norm.logpdf(LINE, hand_written(library, values, X), values["y_noise"]).sum()
    np.testing.assert_allclose(density(target, z), expected, rtol=1e-9)
    np.testing.assert_allclose(density(target, z, x64=False), expected, rtol=1e-5)


@pytest.mark.parametrize("library", ["nnx", "equinox"])
def test_a_fit_starts_at_the_modules_own_weights_and_leaves_it_alone(library):
    module = MODULES[library]
    before = jax.tree.leaves(nnx.state(module) if library == "nnx" else eqx.filter(module, eqx.is_array))
    target = po.network(module, data={"x": X, "y": LINE})
    values = by_name(target, target.initial_point(5))
    output = module(jnp.asarray(X)) if library == "nnx" else jax.vmap(module)(jnp.asarray(X))
    np.testing.assert_allclose(hand_written(library, values, X), np.asarray(output)[:, 0], rtol=1e-4, atol=1e-5)
    after = jax.tree.leaves(nnx.state(module) if library == "nnx" else eqx.filter(module, eqx.is_array))
    assert all(
        np.array_equal(a, b) for a, b in zip(before, after, strict=True) if jnp.issubdtype(a.dtype, jnp.floating)
    )


@pytest.mark.parametrize("library", ["linen", "pair"])
def test_networks_without_weights_draw_other_ones_for_other_seeds(library):
    target = po.network(MODULES[library], data={"x": X, "y": LINE})
    one, same, other = (target.initial_point(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.mean(one != other) > 0.4  # biases start at zero


def test_linens_variables_are_where_a_fit_starts():
    variables = Linen().init(jax.random.key(3), X[:2], train=False)
    target = po.network(Linen(), data={"x": X, "y": LINE}, weights=variables)
    values = by_name(target, target.initial_point(0))
    np.testing.assert_allclose(values["first.kernel"], variables["params"]["first"]["kernel"], rtol=1e-6)


def test_shared_weights_are_one_array():
    target = po.network(Nnx(shared=True), data={"x": X, "y": LINE}, prior="fan_in")
    assert sorted(v.shape for v in target.layout.variables) == [(), (1,), (2, 3), (3,), (3, 1)]

    class Tied(eqx.Module):
        shared: eqx.nn.Shared

        def __init__(self):
            layers = (eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.nn.Linear(2, 2, key=jax.random.key(1)))
            self.shared = eqx.nn.Shared(layers, where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight)

        def __call__(self, x):
            first, second = self.shared()
            return jnp.sum(second(jnp.tanh(first(x))))

    target = po.network(Tied(), data={"x": X, "y": LINE}, prior="fan_in")
    assert [v.shape for v in target.layout.variables] == [(2, 2), (2,), (2,), ()]
    layer = eqx.nn.Linear(2, 2, key=jax.random.key(0))
    twice = eqx.nn.Sequential([layer, layer])
    with pytest.raises(UnsupportedModelError, match=r"'layers.0.weight' and 'layers.1.weight' are the same array"):
        po.network(twice, data={"x": X, "y": X})


# ---- priors
def test_priors_by_path_and_pattern():
    prior = {"layers.0.kernel": dist.Laplace(0.0, 2.0), "*.bias": "fixed", "layers.1": po.FanInPrior(scale=3.0)}
    target = po.network(MODULES["nnx"], data={"x": X, "y": LINE}, prior=prior, likelihood=lambda f: dist.Normal(f, 0.5))
    assert [v.name for v in target.layout.variables] == ["layers.0.kernel", "layers.1.kernel"]
    z = np.random.default_rng(2).standard_normal(target.layout.size)
    values = by_name(target, z)
    biases = {
        name: np.asarray(MODULES["nnx"].layers[k].bias.get_value())
        for k, name in ((0, "layers.0.bias"), (1, "layers.1.bias"))
    }
    expected = stats.laplace.logpdf(values["layers.0.kernel"], 0, 2).sum()
    expected += stats.norm.logpdf(values["layers.1.kernel"], 0, 3 / np.sqrt(HIDDEN)).sum()
    expected += stats.norm.logpdf(LINE, hand_written("nnx", values | biases, X), 0.5).sum()
    np.testing.assert_allclose(density(target, z), expected, rtol=1e-6)  # fixed biases are held in single precision
    with pytest.raises(OptionError, match=r"'layers.7', which is no array of weights; there are 'layers.0.bias'"):
        po.network(MODULES["nnx"], data={"x": X, "y": LINE}, prior={"layers.7": "fan_in"})
    with pytest.raises(OptionError, match="prior='wide' is not known"):
        po.network(MODULES["nnx"], data={"x": X, "y": LINE}, prior="wide")
    with pytest.raises(OptionError, match="nothing to fit"):
        po.network(MODULES["nnx"], data={"x": X, "y": LABELS}, prior="fixed", likelihood="bernoulli")


def test_the_scale_of_the_prior_of_the_output_does_not_grow_with_the_width():
    spread = {}
    for width in (10, 500):
        module = eqx.nn.MLP(2, 1, width, 1, activation=jnp.tanh, key=jax.random.key(0))
        target = po.network(
            module, data={"x": X, "y": LABELS}, likelihood="bernoulli", prior=po.FanInPrior(bias_scale=1e-3)
        )
        draws = np.random.default_rng(0).standard_normal((300, target.layout.size))
        scale = np.concatenate(
            [np.full(v.size, 1e-3 if "bias" in v.name else 1 / np.sqrt(v.shape[1])) for v in target.layout.variables]
        )
        outputs = jax.jit(jax.vmap(lambda z, t=target: t.output(z, {"x": X, "y": LABELS})["y"]))(draws * scale)
        spread[width] = float(np.std(outputs))
    assert abs(np.log(spread[500] / spread[10])) < 0.25


def test_horseshoe_and_uncentred_scales_are_the_same_network_in_other_variables():
    for prior in (po.HorseshoePrior(slab=2.0), po.LearnedScalePrior(centred=False)):
        target = po.network(MODULES["equinox"], data={"x": X, "y": LINE}, prior=prior)
        values = by_name(target, target.initial_point(0))
        output = jax.vmap(MODULES["equinox"])(jnp.asarray(X))[:, 0]  # starts at the module's weights all the same
        np.testing.assert_allclose(hand_written("equinox", values, X), output, rtol=1e-4, atol=1e-5)
    z = np.random.default_rng(0).standard_normal(target.layout.size)  # uncentred: the prior of the weights is N(0, tau)
    values = by_name(target, z)
    raw = z[target.layout.slices["layers.0.weight_raw"]].reshape(HIDDEN, 2)
    np.testing.assert_allclose(values["layers.0.weight"], raw * values["layers.0.weight_scale"] / np.sqrt(2))


def test_the_horseshoes_density():
    prior = {"layers.0.weight": po.HorseshoePrior(global_scale=0.5, slab=2.0), "*": "fixed"}
    target = po.network(
        MODULES["equinox"], data={"x": X, "y": LINE}, prior=prior, likelihood=lambda f: dist.Normal(f, 1.0)
    )
    z = np.random.default_rng(3).standard_normal(target.layout.size)
    values = by_name(target, z)
    tau, local = values["layers.0.weight_global_scale"], values["layers.0.weight_local_scale"]
    raw = z[target.layout.slices["layers.0.weight_raw"]].reshape(HIDDEN, 2)
    slabbed = np.sqrt(4 * local**2 / (4 + tau**2 * local**2))
    np.testing.assert_allclose(values["layers.0.weight"], raw * tau * slabbed, rtol=1e-10)
    with jax.enable_x64(True):
        found = float(target.log_prior(jnp.asarray(z)))
    expected = stats.halfcauchy.logpdf(tau, scale=0.5 / np.sqrt(2)) + np.log(tau)
    expected += (stats.halfcauchy.logpdf(local) + np.log(local)).sum() + stats.norm.logpdf(raw).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_informed_priors_are_centred_at_the_trained_network():
    trained = eqx.nn.MLP(2, 1, HIDDEN, 1, activation=jnp.tanh, key=jax.random.key(7))
    target = po.network(MODULES["equinox"], data={"x": X, "y": LINE}, prior=po.InformedPrior(trained, sd=0.2))
    values = by_name(target, target.initial_point(0))
    np.testing.assert_allclose(values["layers.0.weight"], trained.layers[0].weight, rtol=1e-6)
    with pytest.raises(OptionError, match="says nothing of 'layers.0.weight'"):
        po.network(MODULES["equinox"], data={"x": X, "y": LINE}, prior=po.InformedPrior({"other": np.ones(3)}))
    with pytest.raises(OptionError, match=r"has shape \(3,\), not \(3, 2\)"):
        po.network(
            MODULES["equinox"], data={"x": X, "y": LINE}, prior=po.InformedPrior({"layers": [{"weight": np.ones(3)}]})
        )


# ---- likelihoods
COUNTS = np.array([0, 1, 2, 3] * 10)
LEVELS = np.array([0, 1, 2, 1] * 10)
FAMILIES = {
    "normal": (1, LINE, lambda f, v: stats.norm(f[:, 0], v["y_noise"])),
    "heteroscedastic": (2, LINE, lambda f, v: stats.norm(f[:, 0], np.logaddexp(0, f[:, 1]) + 1e-4)),
    "student_t": (1, LINE, lambda f, v: stats.t(2 + v["y_tail"], f[:, 0], v["y_noise"])),
    "bernoulli": (1, LABELS, lambda f, v: stats.bernoulli(1 / (1 + np.exp(-f[:, 0])))),
    "poisson": (1, COUNTS, lambda f, v: stats.poisson(np.exp(f[:, 0]))),
    "negative_binomial": (
        1,
        COUNTS,
        lambda f, v: stats.nbinom(
            v["y_concentration"], v["y_concentration"] / (v["y_concentration"] + np.exp(f[:, 0]))
        ),
    ),
}


def parts(name):
    outputs, y, of = FAMILIES[name]
    target = po.network(Nnx(outputs), data={"x": X, "y": y}, likelihood=name, prior="fan_in")
    z = 0.7 * np.random.default_rng(1).standard_normal(target.layout.size)

    def everything(z, data):
        terms = target.joint_terms(z, data).log_likelihood["y"]
        return target.output(z, data)["y"], target.constrain(z, data), terms, target.moments(z, data)["y"]

    with jax.enable_x64(True):
        output, values, rows, moments = jax.device_get(jax.jit(everything)(z, target.as_arrays(target.data)))
    return target, z, y, rows, moments, of(output, values)


@pytest.mark.parametrize("name", FAMILIES)
def test_likelihoods_against_scipy(name):
    _, _, y, rows, moments, expected = parts(name)
    log = expected.logpmf if hasattr(expected.dist, "pmf") else expected.logpdf
    np.testing.assert_allclose(rows, log(y), rtol=1e-6)
    np.testing.assert_allclose(moments.mean, expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, expected.var(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_simulations_have_the_moments_within_monte_carlo_error(name):
    target, z, _, _, _, expected = parts(name)
    with jax.enable_x64(True):
        data = target.as_arrays(target.data)
        draw = jax.jit(jax.vmap(lambda key: target.simulate(key, jnp.asarray(z), data)["y"]))
        draws = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)), float)
    assert np.abs((draws.mean(axis=0) - expected.mean()) / np.sqrt(expected.var() / 2000)).max() < 4.5


def test_classes_and_levels_have_probabilities():
    def outputs_and_probabilities(target, z):
        program = jax.jit(lambda z, data: (target.output(z, data)["y"], target.moments(z, data)["y"].mean))
        with jax.enable_x64(True):
            return jax.device_get(program(z, target.as_arrays(target.data)))

    target = po.network(Nnx(3), data={"x": X, "y": LEVELS}, likelihood="categorical", prior="fan_in")
    z = np.random.default_rng(1).standard_normal(target.layout.size)
    logits, p = outputs_and_probabilities(target, z)
    np.testing.assert_allclose(p, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-6)
    levels = po.network(Nnx(1), data={"x": X, "y": LEVELS}, likelihood="ordinal", prior="fan_in")
    z = np.random.default_rng(1).standard_normal(levels.layout.size)
    f, p = outputs_and_probabilities(levels, z)
    cuts = by_name(levels, z)["y_cutpoints"]
    below = 1 / (1 + np.exp(-(cuts - f)))
    np.testing.assert_allclose(p, np.diff(np.concatenate([0 * f, below, 1 + 0 * f], axis=1), axis=1), rtol=1e-6)
    assert np.all(np.diff(cuts) > 0)
    assert target.observed["y"].num_categories == levels.observed["y"].num_categories == 3


def test_several_heads_and_several_inputs_and_weights_of_rows():
    def apply(p, a, b):
        hidden = jnp.tanh(a @ p["w"] + b[:, None])
        return {"count": hidden @ p["u"], "label": hidden @ p["v"]}

    weights = {"w": np.ones((2, 3)), "u": np.full(3, 0.1), "v": np.ones((3, 1))}
    data = {"a": X, "b": X[:, 0], "count": COUNTS, "label": LABELS, "times": np.where(np.arange(40) < 10, 3.0, 1.0)}
    target = po.network(
        (weights, apply),
        data=data,
        likelihood={"count": "poisson", "label": "bernoulli"},
        row_weight="times",
        prior="fan_in",
    )
    z = target.initial_point(0)
    hidden = np.tanh(X @ weights["w"] + X[:, :1])
    rate, p = np.exp(hidden @ weights["u"]), 1 / (1 + np.exp(-hidden.sum(axis=1)))
    with jax.enable_x64(True):
        rows = jax.jit(target.joint_terms)(jnp.asarray(z), target.as_arrays(target.data)).log_likelihood
    np.testing.assert_allclose(rows["count"], data["times"] * stats.poisson.logpmf(COUNTS, rate), rtol=1e-6)
    np.testing.assert_allclose(rows["label"], data["times"] * stats.bernoulli.logpmf(LABELS, p), rtol=1e-6)
    new = target.new_rows({"a": X[:5], "b": X[:5, 0]})
    np.testing.assert_array_equal(new["times"], np.ones(5))  # a row to predict counts for itself


def test_a_likelihood_of_ones_own_learns_what_it_says():
    own = po.Likelihood(lambda f, b: dist.Laplace(f, b), learned={"b": dist.HalfNormal(1.0)})
    target = po.network(Nnx(), data={"x": X, "y": LINE}, likelihood=own, prior="fan_in")
    assert target.layout.variables[-1].name == "y_b"
    assert target.hyperparameters == ("y_b",)
    with pytest.raises(OptionError, match="two numbers|2 numbers per outcome"):
        po.network(Nnx(1), data={"x": X, "y": LINE}, likelihood="heteroscedastic")
    with pytest.raises(OptionError, match=r"distribution of shape \(40, 40\) and the outcomes have shape \(40,\)"):
        po.network(
            Nnx(1), data={"x": X, "y": LINE}, likelihood=po.Likelihood(lambda f: dist.Normal(f, f.T), columns=None)
        )


# ---- fits
def test_a_fit_predicts_and_its_file_predicts_without_the_library(tmp_path):
    target = po.network(MODULES["nnx"], data={"x": X, "y": LABELS}, likelihood="bernoulli")
    approx = po.fit(target, n=300, batch_size=16, random_seed=1, progress=False)
    assert approx.record.is_network
    predicted = approx.predict({"x": X[:7]}, draws=50)
    approx.save(tmp_path / "network.posterion")
    loaded = po.load(tmp_path / "network.posterion")
    np.testing.assert_allclose(loaded.predict({"x": X[:7]}, draws=50).mean["y"], predicted.mean["y"], rtol=1e-5)
    np.testing.assert_allclose(
        loaded.predict({"x": X[:7]}, draws=50).log_score("y", LABELS[:7]),
        predicted.log_score("y", LABELS[:7]),
        rtol=1e-5,
    )


def test_data_of_the_same_shapes_share_what_was_compiled():
    target = po.network(MODULES["pair"], data={"x": X, "y": LINE})
    other = target.with_data({"x": X[::-1], "y": LINE})
    assert other.compiled is target.compiled
    np.testing.assert_array_equal(other.data["x"], X[::-1])
    np.testing.assert_array_equal(target.data["x"], X)


# ---- refusals
def test_what_cannot_be_taken_over_is_refused_by_name():
    data = {"x": X, "y": LINE}
    with pytest.raises(UnsupportedModelError, match="BatchNorm at 'norm' normalises by the other rows"):
        po.network(Nnx(norm=nnx.BatchNorm), data=data)
    with pytest.raises(UnsupportedModelError, match="BatchNorm at 'norm' normalises by the other rows"):
        po.network(Linen(norm=True), data=data)
    with pytest.raises(UnsupportedModelError, match=r"BatchNorm at 'layers.1' normalises"):
        po.network(
            eqx.nn.Sequential([eqx.nn.Linear(2, 1, key=jax.random.key(0)), eqx.nn.BatchNorm(1, "b", mode="ema")]),
            data=data,
        )
    with pytest.raises(UnsupportedModelError, match="the class Nnx as a network.*Make an instance"):
        po.network(Nnx, data=data)
    with pytest.raises(OptionError, match="holds its weights"):
        po.network(Nnx(), data=data, weights={})


def test_trained_statistics_are_kept_and_dropout_is_off():
    module = Nnx(norm=nnx.BatchNorm, dropout=0.5)
    module.norm.mean[...] = jnp.array([1.0, 2.0, 3.0])
    target = po.network(module, data={"x": X, "y": LINE}, prior="fan_in")
    assert len(target.notes) == 2
    with jax.enable_x64(True):
        found = target.output(jnp.asarray(target.initial_point(0)), target.as_arrays(target.data))["y"]
    module.eval()
    np.testing.assert_allclose(found, module(jnp.asarray(X)), rtol=1e-4, atol=1e-5)
    assert "scale" in "".join(v.name for v in target.layout.variables)


def test_outcomes_outside_of_the_likelihood():
    with pytest.raises(DataError, match="must hold labels 0 to 1 and holds 3"):
        po.network(Nnx(), data={"x": X, "y": COUNTS}, likelihood="bernoulli")
    with pytest.raises(DataError, match="labels 0 to 2 and holds 3: the network has 3 outputs"):
        po.network(Nnx(3), data={"x": X, "y": COUNTS}, likelihood="categorical")
    with pytest.raises(DataError, match="must hold counts and holds -1"):
        po.network(Nnx(), data={"x": X, "y": COUNTS - 1}, likelihood="poisson")
    with pytest.raises(DataError, match="whole numbers"):
        po.network(Nnx(), data={"x": X, "y": LINE}, likelihood="bernoulli")
    with pytest.raises(DataError, match="'x' has 40, 'y' has 39"):
        po.network(Nnx(), data={"x": X, "y": LINE[:39]})
    with pytest.raises(DataError, match=r"lack the outcomes \['target'\]"):
        po.network(Nnx(), data={"x": X, "y": LINE}, outcome="target")
    with pytest.raises(DataError, match="outcomes only"):
        po.network(Nnx(), data={"y": LINE})
    with pytest.raises(OptionError, match="likelihood='gauss' is not known"):
        po.network(Nnx(), data={"x": X, "y": LINE}, likelihood="gauss")
