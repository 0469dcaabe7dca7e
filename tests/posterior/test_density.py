"""Files of targets that only give a density: the function that names values, or draws where it cannot be kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion as po
from posterion.errors import OptionError, PosteriorFileError, UnsupportedModelError
from posterion.posterior import density
from posterion.target import AbstractTarget, Layout, Slot, Variable


class Scaled(AbstractTarget):
    """A normal with a scale given as data, and something that has one value per entry of much data."""

    def __init__(self, *, by_callback: bool = False, rows: int = 3) -> None:
        self.layout = Layout(
            (Variable("v", (2,), (2,), ("side",)), Variable("w", (), ())),
            (("twice", ("side",)), ("rows", (None,))),
            (("side", ("left", "right")),),
        )
        self.slots = {"scale": Slot("float64", (2,)), "many": Slot("float64", (None,))}
        self.by_callback = by_callback
        self._data = {"scale": np.array([1.0, 3.0]), "many": np.linspace(0, 1, rows)}

    @property
    def data(self):
        return dict(self._data)

    def log_density(self, z, data):
        return -0.5 * jnp.sum((z[:2] / data["scale"]) ** 2) - 0.5 * z[2] ** 2

    def constrain(self, z, data):
        twice = 2 * z[:2] * data["scale"]
        if self.by_callback:  # cannot be exported
            twice = jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct(twice.shape, twice.dtype), twice)
        return {"v": z[:2], "w": jnp.exp(z[2]), "twice": twice, "rows": data["many"] * z[2]}

    def initial_point(self, seed):
        return np.zeros(3)


def fitted(**options):
    return po.fit(Scaled(**options), n=500, random_seed=4, progress=False)


def equal(one, other):
    return one["posterior"].to_dataset().drop_attrs().identical(other["posterior"].to_dataset().drop_attrs())


def test_the_function_is_kept_where_it_can_be(tmp_path):
    approx = fitted()
    approx.save(tmp_path / "a.posterion")
    loaded = po.load(tmp_path / "a.posterion")
    assert equal(loaded.sample(2500, random_seed=7), approx.sample(2500, random_seed=7))
    assert loaded.elbo == approx.elbo
    assert repr(loaded).splitlines()[0] == repr(approx).splitlines()[0]
    loaded.save(tmp_path / "b.posterion")
    assert equal(po.load(tmp_path / "b.posterion").sample(), approx.sample())
    with pytest.raises(UnsupportedModelError, match="the posterior and not the model"):
        po.fit(loaded.target, n=10, progress=False)


def test_what_needs_much_data_is_left_out(tmp_path):
    approx = fitted(rows=200_000)
    approx.save(tmp_path / "a.posterion")
    assert list(po.load(tmp_path / "a.posterion").sample(5)["posterior"].data_vars) == ["v", "w", "twice"]
    assert (tmp_path / "a.posterion").stat().st_size < 2**20


def test_draws_are_kept_where_the_function_cannot_be(tmp_path):
    approx = fitted(by_callback=True)
    approx.save(tmp_path / "a.posterion")
    loaded = po.load(tmp_path / "a.posterion")
    assert equal(loaded.sample(), approx.sample())
    assert loaded.sample()["posterior"]["v"].dims == ("chain", "draw", "side")
    some, others = (loaded.sample(400, random_seed=seed)["posterior"]["w"].values[0] for seed in (1, 2))
    assert not np.array_equal(some, others)
    assert np.isin(some, approx.sample()["posterior"]["w"]).all()
    assert np.unique(some).size == 400
    np.testing.assert_array_equal(loaded.sample_unconstrained(3000), approx.sample_unconstrained(3000))
    with pytest.raises(UnsupportedModelError, match="keeps 1,000 draws and 1,001 were asked for"):
        loaded.sample(1001)
    with pytest.raises(OptionError, match="draws"):
        loaded.sample(0)
    with pytest.raises(UnsupportedModelError, match="only a density"):
        loaded.predict({})
    loaded.save(tmp_path / "b.posterion")
    assert equal(po.load(tmp_path / "b.posterion").sample(), approx.sample())


def test_the_model_can_be_bound_again(tmp_path):
    approx = fitted(by_callback=True)
    approx.save(tmp_path / "a.posterion")
    bound = po.load(tmp_path / "a.posterion", model=Scaled())
    np.testing.assert_allclose(bound.sample(1500)["posterior"]["twice"], approx.sample(1500)["posterior"]["twice"])

    class Other(Scaled):
        def __init__(self):
            super().__init__()
            self.layout = Layout((Variable("u", (3,), (3,)),))

    with pytest.raises(PosteriorFileError, match="not the one"):
        po.load(tmp_path / "a.posterion", model=Other())


def test_the_largest_derived_draws_are_left_out_first(tmp_path, monkeypatch):
    monkeypatch.setattr(density, "_KEPT_DRAWS_BYTES", 60_000)
    fitted(by_callback=True, rows=50).save(tmp_path / "a.posterion")
    assert list(po.load(tmp_path / "a.posterion").sample()["posterior"].data_vars) == ["v", "w", "twice"]
    monkeypatch.setattr(density, "_KEPT_DRAWS_BYTES", 0)
    fitted(by_callback=True, rows=50).save(tmp_path / "a.posterion")
    assert list(po.load(tmp_path / "a.posterion").sample()["posterior"].data_vars) == ["v", "w"]
