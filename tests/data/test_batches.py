"""Batches: every row once an epoch, padding of weight nothing, the same rows wherever windows are cut."""

import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation.minor_axis import stacked
from posterion.data.batches import AllRows, RandomRows


def batches(num_rows, batch_size, seed=0):
    rows = {"x": np.arange(num_rows, dtype=np.float32)}
    return RandomRows(rows, {"x": 0}, batch_size, seed, {"constant": jnp.ones(3)}, lambda batch: batch, stacked)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(284, 50), (100, 25), (7, 7), (7, 1), (5, 4), (300_000, 4096)])
def test_an_epoch_visits_every_row_once(num_rows, batch_size):
    stream = batches(num_rows, batch_size)
    for epoch in (0, 1, 5):
        steps = range(epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch)
        seen = np.concatenate([stream.rows_of(step) for step in steps])
        assert sorted(seen) == list(range(num_rows))
        sizes = {len(stream.rows_of(step)) for step in steps}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1  # no small last batch, whose rows would stand for many


def test_windows_agree_with_single_steps_wherever_they_are_cut():
    stream = batches(11, 4)
    whole, counts = stream.indices(0, 50, 64)
    for first, length in ((0, 7), (2, 1), (13, 20), (49, 1)):
        part, part_counts = stream.indices(first, length, 32)
        rows, _ = stream.window(first, length, 32)
        np.testing.assert_array_equal(rows["x"][:length], part[:length])
        np.testing.assert_array_equal(part[:length], whole[first : first + length])
        np.testing.assert_array_equal(part_counts[:length], counts[first : first + length])
    for step in range(50):
        np.testing.assert_array_equal(whole[step][: counts[step]], stream.rows_of(step))


def test_epochs_differ_and_seeds_reproduce():
    first, again, other = batches(50, 10, 1), batches(50, 10, 1), batches(50, 10, 2)
    np.testing.assert_array_equal(first.indices(0, 20, 20)[0], again.indices(0, 20, 20)[0])
    assert not np.array_equal(first.indices(0, 20, 20)[0], other.indices(0, 20, 20)[0])
    assert not np.array_equal(first.indices(0, 5, 5)[0], first.indices(5, 5, 5)[0])


def test_select_cuts_rows_and_marks_padding():
    stream = batches(5, 4)
    rows, counts = stream.window(0, 2, 2)
    longer, shorter = (stream.select(stream.data, ({"x": rows["x"][k]}, counts[k])) for k in (0, 1))
    assert longer.real.tolist() == [True] * 3
    assert shorter.real.tolist() == [True, True, False]
    assert longer.data["constant"].shape == (3,)
    real = np.concatenate([np.asarray(longer.data["x"]), np.asarray(shorter.data["x"])[:2]])
    assert sorted(real) == [0, 1, 2, 3, 4]


def test_all_rows_hands_the_data_on():
    stream = AllRows({"x": jnp.arange(3)})
    batch = stream.select(stream.data, stream.window(0, 10, 10))
    assert batch.real is None
    assert batch.data is stream.data
