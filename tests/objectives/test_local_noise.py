"""Weights drawn for each row apart: where they are, the same ELBO and gradient in expectation, with less noise."""

from dataclasses import replace

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import posterion as po
from posterion._typing import Batch
from posterion.compilation.row_noise import POOL, Parts, Way
from posterion.compilation.row_noise.program import _normals
from posterion.errors import OptionError, UnsupportedModelError
from posterion.methods.advi import _with_rows
from posterion.objectives.bounds import log_joint
from posterion.objectives.gradients import sticking_the_landing
from posterion.objectives.local_noise import RowKey, RowNoise, local_integrand, local_noise

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 16)), RNG.normal(size=24)


class Flat(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(16, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](jnp.tanh(self.layers[0](x)))


class Convolutional(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(2, (3, 3), name="conv")(x.reshape(-1, 4, 4, 1)))
        x = linen.avg_pool(x, (2, 2), strides=(2, 2))
        return linen.Dense(1, name="last")(x.reshape(x.shape[0], -1))


class Sequence(linen.Module):
    """The same weights for sixteen elements of a row."""

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1, name="last")(jnp.tanh(linen.Dense(2, name="each")(x[..., None])).mean(axis=1))


class Twice(linen.Module):
    """A layer that is used twice, an array that is looked up, and one that is scaled before it is used."""

    @linen.compact
    def __call__(self, x):
        same = linen.Dense(16, name="same")
        table = self.param("table", linen.initializers.normal(1.0), (3, 16))
        hidden = jnp.tanh(same(jnp.tanh(same(x)))) + jnp.take(table, (x[:, 0] > 0).astype(int), axis=0)
        mixed = self.param("mixed", linen.initializers.normal(1.0), (16, 2)) * jnp.exp(
            self.param("size", linen.initializers.zeros, ())
        )
        return linen.Dense(1, name="last")(hidden @ mixed)


PAIR = (
    lambda key, x: {"first": jax.random.normal(key, (16, 3)), "last": jax.random.normal(key, (3, 1))},
    lambda p, x: jnp.tanh(x @ p["first"]) @ p["last"],
)
WIDE = (
    (
        lambda key, x: {"first": jax.random.normal(key, (5, 100)), "last": 0.1 * jax.random.normal(key, (100, 1))},
        lambda p, x: jax.nn.relu(x @ p["first"]) @ p["last"],
    ),
)
CASES = {
    "nnx": (
        Flat(),
        {
            "layers.0.kernel": Way.LOCAL,
            "layers.0.bias": Way.ADDED,
            "layers.1.kernel": Way.LOCAL,
            "layers.1.bias": Way.ADDED,
        },
    ),
    "equinox": (
        eqx.nn.MLP(16, 1, 3, 1, activation=jnp.tanh, key=jax.random.key(0)),
        {
            "layers.0.weight": Way.LOCAL,
            "layers.0.bias": Way.ADDED,
            "layers.1.weight": Way.LOCAL,
            "layers.1.bias": Way.ADDED,
        },
    ),
    "pair": (PAIR, {"first": Way.LOCAL, "last": Way.LOCAL}),
    "convolutional": (
        Convolutional(),
        {"conv.kernel": Way.FLIPOUT, "conv.bias": Way.ADDED, "last.kernel": Way.LOCAL, "last.bias": Way.ADDED},
    ),
    "sequence": (
        Sequence(),
        {"each.kernel": Way.FLIPOUT, "each.bias": Way.ADDED, "last.kernel": Way.LOCAL, "last.bias": Way.ADDED},
    ),
    "twice": (Twice(), {"mixed": Way.LOCAL, "last.kernel": Way.LOCAL, "last.bias": Way.ADDED}),
}


def target_of(case, prior=None, data=None):
    return po.network(CASES.get(case, WIDE)[0], data=data or {"x": X, "y": Y}, prior=prior)


class Both:
    """The ELBO's integrand with shared and with local noise, at some place, for a padded batch, tempered, whitened."""

    def __init__(self, case, family, *, sd, prior=None, data=None, rows=12):
        target, random = target_of(case, prior, data), np.random.default_rng(3)
        data, layout = target.as_arrays(target.data), target.layout
        self.local, self.batch = (
            local_noise(target, data),
            Batch({k: v[:rows] for k, v in data.items()}, jnp.arange(rows) < rows - 2),
        )
        shift, scale = (jnp.asarray(f(0.2 * random.normal(size=layout.size))) for f in (lambda x: x, np.exp))
        joint, pool = log_joint(target, ("y",), 2.0), jax.random.normal(jax.random.key(7), (POOL,))
        whitened = lambda u, batch: joint(shift + scale * u, batch) + jnp.sum(jnp.log(scale))
        rows = RowNoise(self.local.places, self.local.log_joint(("y",), 2.0))
        self.integrands = {
            "shared": sticking_the_landing(whitened, family, layout),
            "local": local_integrand(rows, family, shift, scale, pool),
        }
        self.params = family.init(layout, jnp.asarray(target.initial_point(0)), jax.random.key(1), sd)
        self.family, self.layout = family, layout

    def noise(self, count):
        size = self.local.places.num_drawn + self.family.num_common
        of_rows = jax.tree.map(lambda x: x[::2], _with_rows(jax.random.key(5), 2 * count, size))  # no mirror images
        return {"shared": self.family.noise(self.layout, jax.random.key(2), count), "local": of_rows}

    def gradients(self, count):
        """Values and gradients of so many draws, by kind of noise."""
        found = {}
        for name, noise in self.noise(count).items():
            one = jax.value_and_grad(self.integrands[name])
            values, gradients = jax.jit(jax.vmap(one, (None, 0, None)))(self.params, noise, self.batch)
            found[name] = np.concatenate(
                [np.asarray(values)[:, None], np.asarray(gradients).reshape(count, -1)], axis=1
            )
        return found


@pytest.mark.parametrize("case", CASES)
def test_weights_that_a_row_meets_once_are_drawn_for_it(case):
    target = target_of(case)
    with jax.enable_x64(True):
        found = local_noise(target, target.as_arrays(target.data))
    named = {slice_.start: name for name, slice_ in target.layout.slices.items()}
    assert {named[use.span[0]]: use.way for use in found.program.uses.values()} == CASES[case][1]
    assert set(found.by_row) == set(CASES[case][1])
    assert ("same.kernel" in found.note) == (case == "twice")
    assert "scale" not in found.note


@pytest.mark.parametrize(
    "case", ["equinox", *(pytest.param(case, marks=pytest.mark.slow) for case in ("convolutional", "twice"))]
)
def test_without_spread_it_is_the_log_joint_itself(case):
    """Values and gradients: rows, padding, N / B and tempering go the same way."""
    target, key = target_of(case, "horseshoe"), jax.random.key_data(jax.random.key(0))
    with jax.enable_x64(True):
        data = target.as_arrays(target.data)
        batch = Batch({name: values[:12] for name, values in data.items()}, jnp.arange(12) < 10)
        local = local_noise(target, data).log_joint(("y",), 2.0)
        rows = RowKey(key, jnp.ones(()), jax.random.normal(jax.random.key(7), (POOL,)))
        z = jnp.asarray(target.initial_point(0)) + 0.1 * RNG.normal(size=target.layout.size)
        ours = jax.jit(jax.value_and_grad(lambda z: local(Parts(z, z, jnp.zeros_like(z)), rows, batch)))(z)
        theirs = jax.jit(jax.value_and_grad(lambda z: log_joint(target, ("y",), 2.0)(z, batch)))(z)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("prior", [None, "horseshoe"])
def test_the_prior_in_expectation_over_normal_weights(prior):
    """Of a quadratic two points a standard deviation from the mean have the right mean."""
    target = target_of("nnx", prior)
    names = [name for name in target.normal_given_others if "kernel" in name]
    assert len(names) == 2 and not any("scale" in name for name in target.normal_given_others)
    with jax.enable_x64(True):
        z, sd = 0.3 * RNG.normal(size=target.layout.size), np.zeros(target.layout.size)
        for name in names:
            at = target.layout.slices[name]
            sd[at] = RNG.uniform(0.1, 1, at.stop - at.start)
        given = {name: jnp.asarray(sd[target.layout.slices[name]] ** 2) for name in names}
        expected = target.expected_log_prior(jnp.asarray(z), given)
        two = [target.log_prior(jnp.asarray(z + sign * sd)) for sign in (-1, 1)]
    np.testing.assert_allclose(expected, np.mean(two), rtol=1e-12)


def test_no_row_meets_a_normal_twice():
    """Also where there are more than fit into a window of the pool, whose places stand for normals here."""
    pool, key, sizes = jnp.arange(1.0, POOL + 1), jax.random.key(3), (700, 0, 500)
    draw = jax.jit(lambda sign: _normals(key, 500, sizes, sign, pool))
    found, mirrored = draw(jnp.float32(1)), draw(jnp.float32(-1))
    assert [x.shape for x in found] == [(500, size) for size in sizes]
    whole = np.concatenate(found, axis=1)
    assert all(len(np.unique(np.abs(row))) == 1200 for row in whole)
    assert len(np.unique(np.abs(whole))) > 0.5 * len(pool)
    np.testing.assert_array_equal(np.concatenate(mirrored, axis=1), -whole)
    wider = _normals(key, 2, (POOL, 1), jnp.float32(1), pool)
    assert [x.shape for x in wider] == [(2, POOL), (2, 1)] and abs(np.std(wider[0]) - 1) < 0.01


def close_in_expectation(both, count):
    found = both.gradients(count)
    errors = np.sqrt(sum(x.var(axis=0) for x in found.values()) / count) + 1e-9
    distance = (found["shared"].mean(axis=0) - found["local"].mean(axis=0)) / errors
    assert np.abs(distance[0]) < 3.5
    assert np.sqrt(np.mean(distance**2)) < 1.4
    return found


SLOW = [
    (case, family, prior)
    for case in CASES
    for family in (po.MeanField(), po.LowRank(2))
    for prior in (None, "horseshoe")
]


def test_value_and_gradient_are_the_same_in_expectation():
    with jax.enable_x64(True):
        close_in_expectation(Both("pair", po.MeanField(), sd=0.3), 2000)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "family", "prior"), SLOW)
def test_value_and_gradient_are_the_same_in_expectation_everywhere(case, family, prior):
    with jax.enable_x64(True):
        close_in_expectation(Both(case, family, sd=0.3, prior=prior), 20_000)


@pytest.mark.slow
def test_less_noise_in_the_gradient_of_a_wide_network():
    random = np.random.default_rng(1)
    x = random.normal(size=(2000, 5))
    y = np.sin(x.sum(axis=1)) + 0.1 * random.normal(size=2000)
    both = Both("wide", po.MeanField(), sd=0.05, data={"x": x, "y": y}, rows=128)
    weights = np.concatenate([1 + np.r_[both.layout.slices[name]] for name in ("first", "last")])
    shared, local = (both.gradients(64)[name][:, weights].var(axis=0).sum() for name in ("shared", "local"))
    assert local < 0.5 * shared


FIT = {"n": 300, "batch_size": 8, "progress": False, "random_seed": 1}


@pytest.mark.slow
def test_fits_repeat_to_the_bit_and_go_on_from_a_checkpoint(tmp_path):
    target, method = target_of("twice"), po.ADVI(noise="local")

    def stop(progress):
        if progress.step >= 100:
            raise StopIteration

    whole = po.fit(target, method, **FIT)
    po.fit(target, method, checkpoint=tmp_path, callbacks=[stop], **FIT)
    resumed = po.fit(target, method, checkpoint=tmp_path, **FIT)
    np.testing.assert_array_equal(whole.params, resumed.params)
    np.testing.assert_array_equal(whole.log_weights, resumed.log_weights)
    assert "same.kernel" in " ".join(whole.record.notes)


@pytest.mark.slow
def test_it_finds_what_shared_noise_finds():
    """All rows, several draws a step, float32; the ELBO is that of ordinary draws. One target keeps both programs."""
    target, options = target_of("pair", "fan_in"), {"n": 2000, "progress": False, "random_seed": 2}
    method = po.ADVI(family=po.LowRank(2), num_draws=2)
    shared, local = (po.fit(target, replace(method, noise=noise), **options) for noise in ("shared", "local"))
    assert not np.array_equal(shared.params, local.params)
    assert local.elbo > shared.elbo - 1.0


def test_refused_where_it_means_nothing():
    with pytest.raises(OptionError, match="'shared' or 'local'"):
        po.ADVI(noise="flipout")
    with pytest.raises(OptionError, match="MeanField and LowRank"):
        po.fit(target_of("pair"), po.ADVI(family=po.FullRank(), noise="local"))
    plain = po.log_density(lambda z: -jnp.sum(z["a"] ** 2), initial={"a": np.zeros(3)})
    with pytest.raises(OptionError, match=r"posterion\.network"):
        po.fit(plain, po.ADVI(noise="local"))
    alike = (lambda key, x: {"w": jnp.zeros((16, 16))}, lambda p, x: (x @ p["w"] @ p["w"])[:, :1])
    with pytest.raises(UnsupportedModelError, match="found no weights"):
        po.fit(po.network(alike, data={"x": X, "y": Y}), po.ADVI(noise="local"))
