"""A journey written down and read again is the same journey, whatever its states are made of."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion import _files
from posterion.optim.comparing import Comparison
from posterion.optim.journey import Journey, Stage, Status, read_back, write_down


def some_state(seed):
    rng = np.random.default_rng(seed)
    return {
        "params": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
        "short": jnp.asarray(rng.normal(size=4), jnp.bfloat16),
        "count": jnp.asarray(seed, jnp.int32),
        "key": jax.random.key(seed),
    }


JOURNEY = Journey(
    Stage.TRYING,
    some_state(0),
    some_state(1),
    1000,
    0.1,
    511_000,
    starts=(some_state(2), some_state(3)),
    ended=("",),
    round=1,
    done=300,
    steps=1300,
    skipped=7,
    losses=np.arange(1300.0),
    path=((0, 1000),),
    compared=2,
    comparisons=(Comparison(3000, -1.5, float("inf"), 0.0),),
)


def through_json(plain):
    return _files.decode(json.loads(json.dumps(_files.encode(plain), allow_nan=False)))


@pytest.mark.parametrize(
    "journey",
    [
        JOURNEY,
        dataclasses.replace(JOURNEY, state=JOURNEY.before, starts=(), ended=()),
        JOURNEY.finish(some_state(4), Status.NON_FINITE, "in words"),
    ],
)
def test_comes_back(journey):
    arrays, plain = write_down(journey)
    assert all(values.dtype.kind in "fiub" for values in arrays.values())
    found = read_back(arrays, through_json(plain), jax.eval_shape(lambda: some_state(0)))
    for f in dataclasses.fields(Journey):
        if f.name not in ("state", "before", "starts", "losses"):
            assert getattr(found, f.name) == getattr(journey, f.name), f.name
    np.testing.assert_array_equal(found.losses, journey.losses)
    both = (found.state, found.before, found.starts), (journey.state, journey.before, journey.starts)
    for new, old in zip(*map(jax.tree.leaves, both), strict=True):
        assert new.dtype == old.dtype
        raw = jax.random.key_data if jax.dtypes.issubdtype(old.dtype, jax.dtypes.prng_key) else np.asarray
        np.testing.assert_array_equal(raw(new), raw(old))


def test_what_does_not_fit_is_refused():
    arrays, plain = write_down(JOURNEY)
    shapes = jax.eval_shape(lambda: some_state(0))
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*where shape \(5,\)"):
        read_back(arrays, plain, shapes | {"params": jax.ShapeDtypeStruct((5,), "float32")})
    with pytest.raises(ValueError, match="more arrays"):
        read_back(arrays, plain, {"params": shapes["params"]})
    with pytest.raises(ValueError, match="lacks an array"):
        read_back(arrays, plain, shapes | {"zz": jax.ShapeDtypeStruct((), "float32")})


def test_the_path_leaves_out_what_led_nowhere():
    journey = dataclasses.replace(JOURNEY, path=((0, 100), (200, 250)), steps=300, done=50)
    assert journey.on_path == 150
    assert journey.path_losses().tolist() == [*range(100), *range(200, 250)]
    assert journey.path_losses(present=True).tolist() == [*range(100), *range(200, 300)]
