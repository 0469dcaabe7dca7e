"""Streamed batches: every row once an epoch, the same rows wherever a fit goes on, sorted files noticed."""

import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import posterion.data
from posterion.data import windows
from posterion.data.look import drift
from posterion.data.streamed import StreamedRows
from posterion.data.windows import ArrayWindows, windows_of

ROWS = 5003
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
NUMBER = np.arange(ROWS)
as_is = lambda rows, place: rows


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows of a tenth of the rows, as if there were many."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", 500 * (12 + 8))


def from_files(seed, folder):
    pq.write_table(
        pa.table({"n": NUMBER, **{f"x{k}": X[:, k] for k in range(3)}}), folder / "t.parquet", row_group_size=97
    )
    source = posterion.data.parquet(folder / "t.parquet", {"x": ["x0", "x1", "x2"], "number": "n"})
    return windows_of(source, seed, as_is)


def from_arrays(seed, folder):
    return ArrayWindows({"x": X, "number": NUMBER}, seed)


def from_iterator(seed, folder):
    chunks = lambda: ({"x": X[k : k + 61], "number": NUMBER[k : k + 61]} for k in range(0, ROWS, 61))
    return windows_of(posterion.data.iterator(chunks, num_rows=ROWS), seed, as_is)


KINDS = {"files": from_files, "arrays": from_arrays, "iterator": from_iterator}


def stream(kind, folder, batch_size=128, seed=1):
    return StreamedRows(KINDS[kind](seed, folder), batch_size, {}, lambda rows: rows)


def numbers(stream, first, count, capacity=64):
    rows, counts = stream.window(first, count, capacity)
    np.testing.assert_array_equal(rows["x"][:count], X[rows["number"][:count]])  # inputs stay together, padding too
    return [rows["number"][k, : counts[k]] for k in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_visits_every_row_once(kind, tmp_path):
    batches = stream(kind, tmp_path)
    orders = []
    for epoch in range(2):
        start, stop = epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch
        seen = [n for first in range(start, stop, 9) for n in numbers(batches, first, min(9, stop - first))]
        assert [len(n) for n in seen] == [len(n) for n in np.array_split(NUMBER, -(-ROWS // 128))]
        np.testing.assert_array_equal(np.sort(np.concatenate(seen)), NUMBER)
        orders.append(np.concatenate(seen))
    assert np.mean(orders[0] == orders[1]) < 0.05
    batches.close()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_step_depend_on_nothing_but_seed_and_number(kind, tmp_path):
    batches = stream(kind, tmp_path)
    whole = [n for first in range(0, 90, 30) for n in numbers(batches, first, 30)]
    batches.close()
    for first, count in ((37, 5), (3, 20), (61, 29)):  # fresh objects: what a fit that goes on has
        again = stream(kind, tmp_path)
        for k, found in enumerate(numbers(again, first, count)):
            np.testing.assert_array_equal(found, whole[first + k])
        jumped = numbers(again, 2, 3)  # and back
        np.testing.assert_array_equal(jumped[0], whole[2])
        again.close()
    other = stream(kind, tmp_path, seed=2)
    assert not np.array_equal(numbers(other, 0, 1)[0], whole[0])
    other.close()


def test_rows_are_mixed_across_a_file(tmp_path):
    batches = stream("files", tmp_path, batch_size=100)
    first = numbers(batches, 0, 1)[0]
    assert np.ptp(first) > ROWS / 4  # chunks come from all over, and a batch from several of them
    assert len(np.unique(first // 97)) > 2
    batches.close()


def test_an_error_while_reading_ahead_reaches_the_caller(tmp_path):
    def broken(rows, place):
        raise posterion.errors.DataError(f"no good: {place}")

    pq.write_table(pa.table({"n": NUMBER}), tmp_path / "t.parquet", row_group_size=97)
    source = posterion.data.parquet(tmp_path / "t.parquet", {"number": "n"})
    with pytest.raises(posterion.errors.DataError, match="no good: .*row group"):
        StreamedRows(windows_of(source, 0, broken), 10, {}, lambda rows: rows)


class ToldApart(ArrayWindows):
    """Arrays, one window at a time: the second waits until it may go on."""

    def __init__(self):
        super().__init__({"number": NUMBER}, 0)
        self.reads, self.begun, self.go_on = 0, threading.Event(), threading.Event()

    def read(self, epoch, window):
        self.reads += 1
        if self.reads == 2:
            self.begun.set()
            assert self.go_on.wait(10)
        return super().read(epoch, window)


def test_closing_does_not_wait_for_what_nobody_will_want():
    rows = ToldApart()
    batches = StreamedRows(rows, 10, {}, lambda rows: rows)
    per_window = int(rows.sizes(0)[0]) // 10
    batches.window(0, per_window - 1, 512)  # then twice as many are laid out ahead, of three windows
    assert rows.begun.wait(10)
    assert rows.reads == 2
    closer = threading.Thread(target=batches.close)
    closer.start()
    while not batches._closing.is_set():
        time.sleep(0.001)
    rows.go_on.set()
    closer.join(10)
    assert rows.reads == 2


def test_nothing_is_read_ahead_after_the_last_window():
    rows = ToldApart()
    batches = StreamedRows(rows, 10, {}, lambda rows: rows)
    assert rows.reads == 0  # the types of rows in memory are known
    batches.window(0, 3, 512, last=True)
    batches.close()
    assert rows.reads == 1


# ---- sorted files
def sorted_file(folder, order):
    y = (NUMBER > ROWS / 2).astype(np.int8)[order]
    pq.write_table(pa.table({"x": X[order, 0], "y": y}), folder / "s.parquet", row_group_size=97)
    return posterion.data.parquet(folder / "s.parquet", {"x": "x", "y": "y"})


def test_a_sorted_file_is_noticed_and_a_shuffled_one_is_not(tmp_path):
    said = drift(sorted_file(tmp_path, NUMBER))
    assert "y (" in said and "x (" not in said
    assert "ORDER BY random()" in said
    assert drift(sorted_file(tmp_path, np.random.default_rng(0).permutation(ROWS))) == ""


def test_the_line_that_shuffles_is_one_that_duckdb_runs(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    said = drift(sorted_file(tmp_path, NUMBER))
    line = said[said.index("COPY (") :].replace("shuffled.parquet", str(tmp_path / "shuffled.parquet"))
    line = line.replace("ROW_GROUP_SIZE 65536", "ROW_GROUP_SIZE 2048")  # DuckDB's smallest, for a file this small
    duckdb.execute(line)
    shuffled = posterion.data.parquet(tmp_path / "shuffled.parquet", {"x": "x", "y": "y"})
    assert shuffled.num_rows == ROWS
    assert drift(shuffled) == ""
