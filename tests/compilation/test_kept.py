"""Programs kept on disk: read back instead of traced, equal to the last bit, made anew whenever in doubt."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import posterion as po
from posterion.compilation import cache


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("POSTERION_CACHE", str(tmp_path))
    return cache.cache_folder() / "programs"


class Traced:
    """A function that counts its traces."""

    def __init__(self, result=lambda x, y: {"sum": (jnp.sum(x) + y[0], None), "all": [x * y[0], optax.EmptyState()]}):
        self.count, self._result = 0, result

    def program(self, name="a digest"):
        def function(x, y):
            self.count += 1
            return self._result(x, y)

        return cache.Program(function, name=lambda: name)


ARGUMENTS = (np.arange(3, dtype=np.float32), (np.float32(2.0), None))


def test_the_next_program_of_the_name_is_not_traced(folder):
    traced = Traced()
    first = traced.program()(*ARGUMENTS)
    assert traced.count == 1
    again = traced.program()(*ARGUMENTS)
    assert traced.count == 1
    assert jax.tree.structure(first) == jax.tree.structure(again)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert [file.suffix for file in folder.iterdir()] == [".stablehlo"]


def test_other_names_shapes_precisions_and_versions_are_other_programs(folder, monkeypatch):
    traced = Traced()
    traced.program()(*ARGUMENTS)
    traced.program("another digest")(*ARGUMENTS)
    assert traced.count == 2
    traced.program()(np.ones(4, np.float32), ARGUMENTS[1])
    assert traced.count == 3
    with jax.enable_x64(True):
        traced.program()(np.arange(3.0), (2.0, None))
    assert traced.count == 4
    monkeypatch.setattr("posterion.compilation.kept._versions", lambda: "the next release")
    traced.program()(*ARGUMENTS)
    assert traced.count == 5


def test_a_damaged_file_is_made_anew(folder):
    traced = Traced()
    expected = traced.program()(*ARGUMENTS)
    [file] = folder.iterdir()
    whole = file.read_bytes()
    ours, theirs = b'["optax._src.base", "EmptyState"]', b'["posterion.compilation.cache", "os"]'
    assert ours in whole  # and a file that names something else calls nothing
    others = (whole.replace(ours, theirs), whole.replace(b"optax", b"os.pa"))
    for content in (b"", whole[:100], *others, b"null\n" + whole):
        file.write_bytes(content)
        jax.tree.map(np.testing.assert_array_equal, expected, traced.program()(*ARGUMENTS))
        traced.program()(*ARGUMENTS)  # read back again
    assert traced.count == 6


def test_what_cannot_be_kept_runs_all_the_same(folder):
    class Theirs(NamedTuple):
        x: jax.Array

    traced = Traced(lambda x, y: Theirs(x * y[0]))
    assert isinstance(traced.program()(*ARGUMENTS), Theirs)
    assert not folder.exists()
    assert isinstance(cache.Program(lambda x: Theirs(x), name=lambda: None)(ARGUMENTS[0]), Theirs)


def test_without_a_cache_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("POSTERION_CACHE", "")
    traced = Traced()
    for _ in range(2):
        traced.program()(*ARGUMENTS)
    assert traced.count == 2


def test_a_fit_by_kept_programs_is_the_same_to_the_last_bit(folder, monkeypatch):
    rows = np.random.default_rng(0).standard_normal(20)

    def fitted(shift):
        density = lambda z: -jnp.sum(jnp.logaddexp(z["a"] - shift, 0.0) + z["a"] ** 2)
        target = po.log_density(density, initial={"a": rows[:3]})
        return po.fit(target, n=200, progress=False, random_seed=1)

    first = fitted(1.0)
    assert len([*folder.iterdir()]) == 4
    again = fitted(1.0)
    assert len([*folder.iterdir()]) == 4
    np.testing.assert_array_equal(first.hist, again.hist)
    other = fitted(2.0)  # another density of the same shapes
    assert len([*folder.iterdir()]) == 8
    assert not np.array_equal(first.hist, other.hist)
    monkeypatch.setenv("POSTERION_CACHE", "")
    np.testing.assert_array_equal(other.hist, fitted(2.0).hist)
