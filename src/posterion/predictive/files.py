"""Predictions of a source: chunk by chunk in bounded memory, from files to files, restartable, by several machines.

Every chunk becomes a file of its own, written under another name first and then renamed, so that a file that is there
is whole. A run that was interrupted goes on where it stopped; machines take every n-th chunk each and need not know of
one another.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from posterion import _files
from posterion.data.iterators import IteratorSource
from posterion.data.source import AbstractChunkSource, AbstractSource, concatenate
from posterion.data.tables import arrow, parquet
from posterion.errors import DataError, OptionError
from posterion.predictive.evaluation import Progress
from posterion.predictive.prediction import Prediction
from posterion.target import AbstractRowTarget

_MANIFEST = "_posterion.json"

PredictChunk = Callable[[Mapping[str, np.ndarray], int], Prediction]
"""``(inputs of a chunk, its number) -> prediction``."""


class SourcePrediction:
    """Predictions of the rows of a source, made when they are asked for.

    Made by ``posterior.predict(source)``; not meant to be constructed by hand.

    Parameters
    ----------
    source
        The rows.
    inputs
        The inputs that are predicted from; others in the source are left out.
    predict_chunk
        Predicts one chunk.
    made_by
        Plain values that tell this posterior, its draws and its seed from others.
    """

    def __init__(
        self, source: AbstractSource, inputs: Sequence[str], predict_chunk: PredictChunk, made_by: Mapping[str, Any]
    ) -> None:
        self._source, self._inputs, self._predict, self._made_by = source, tuple(inputs), predict_chunk, dict(made_by)

    @property
    def num_rows(self) -> int:
        """Rows to predict."""
        return self._source.num_rows

    def chunks(self, *, shard: tuple[int, int] = (0, 1)) -> Iterator[tuple[int, Prediction]]:
        """Number and prediction of every chunk, one at a time; row labels count the rows of the source.

        Parameters
        ----------
        shard
            (rank, n): only every n-th chunk, from number ``rank`` on.

        Raises
        ------
        OptionError
            If ``shard`` is no such pair.
        DataError
            If the rows do not fit the model; the message says where they lie.
        """
        for number, start, arrays in self._pieces(shard, set()):
            yield number, self._predict_piece(number, start, arrays())

    def in_memory(self) -> Prediction:
        """One prediction of all rows, for sources that are small enough."""
        parts = [arrays() for _, _, arrays in self._pieces((0, 1), set())]
        return self._predict(concatenate(parts), 0)

    def to_parquet(
        self,
        folder: str | PathLike,
        names: Sequence[str] | None = None,
        *,
        shard: tuple[int, int] = (0, 1),
        progress: Progress | None = None,
    ) -> list[Path]:
        """Write one Parquet file per chunk, ``part-000000.parquet`` on; those that are there are not made again.

        Parameters
        ----------
        folder
            Where to; made if it is not there. One folder holds the predictions of one source by one posterior.
        names
            The variables wanted; None for all. They must have the same rows.
        shard
            (rank, n): this process writes every n-th file, from number ``rank`` on. All may write to one folder.
        progress
            Called with (rows done, rows in all) after every file.

        Returns
        -------
        list of Path
            This shard's files, in the order of the rows. Column ``row`` counts the rows of the source.

        Raises
        ------
        OptionError
            If the folder holds something else, or ``shard`` is no such pair.
        DataError
            If the rows do not fit the model; files written before that stay and are whole.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._claim(folder, names)
        paths = {number: folder / f"part-{number:06d}.parquet" for number in self._numbers(shard)}
        done = {number for number, path in paths.items() if path.exists()}
        for number, start, arrays in self._pieces(shard, done):
            path = paths.setdefault(number, folder / f"part-{number:06d}.parquet")
            stop = start
            if not path.exists():
                prediction = self._predict_piece(number, start, arrays())
                _write(prediction, path, names)
                stop = start + prediction.num_rows
            if progress is not None:
                progress(stop, self.num_rows)
        return [paths[number] for number in sorted(paths)]

    def _predict_piece(self, number: int, start: int, arrays: Mapping[str, np.ndarray]) -> Prediction:
        try:
            found = self._predict(arrays, number)
        except DataError as error:
            place = self._source.place(number) if isinstance(self._source, AbstractChunkSource) else f"chunk {number}"
            raise DataError(f"{place}: {error}") from error
        found.row_labels = np.arange(start, start + found.num_rows)
        return found

    def _numbers(self, shard: tuple[int, int]) -> range:
        rank, count = shard
        if not 0 <= rank < count:
            raise OptionError(f"shard must be (rank, n) with 0 <= rank < n, not {shard!r}")
        chunks = self._source.num_chunks if isinstance(self._source, AbstractChunkSource) else 0
        return range(rank, chunks, count)

    def _pieces(
        self, shard: tuple[int, int], done: set[int]
    ) -> Iterator[tuple[int, int, Callable[[], dict[str, np.ndarray]]]]:
        """Number, first row and reader of each chunk that is wanted and not done."""
        source, numbers = self._source, self._numbers(shard)
        if isinstance(source, AbstractChunkSource):
            starts = np.concatenate([[0], np.cumsum(source.chunk_rows)])
            for number in numbers:
                if number not in done:
                    yield number, int(starts[number]), lambda k=number: self._chosen(source.read_checked(k))
            return
        assert isinstance(source, IteratorSource)  # there are two kinds  # noqa: S101
        start = 0
        for number, arrays in enumerate(source.epoch()):
            if number % shard[1] == shard[0]:
                yield number, start, lambda arrays=arrays: self._chosen(arrays)
            start += len(next(iter(arrays.values())))

    def _chosen(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        missing = [name for name in self._inputs if name not in arrays]
        if missing:
            raise DataError(f"the source lacks the inputs {missing}; it has {list(arrays)}")
        return {name: arrays[name] for name in self._inputs}

    def _claim(self, folder: Path, names: Sequence[str] | None) -> None:
        """Make sure that what is in the folder was made of the same rows by the same posterior."""
        facts = {**self._made_by, "rows": self.num_rows, "source": self._source.identity}
        mine = json.loads(json.dumps({**facts, "names": None if names is None else list(names)}))
        path = folder / _MANIFEST
        if not path.exists():
            if any(folder.glob("part-*.parquet")):
                raise OptionError(f"{folder} holds files of something else: give a folder of their own to predictions")
            _files.replace(path, json.dumps(mine, indent=1).encode())
            return
        found = json.loads(path.read_text())
        differing = [name for name in mine if mine[name] != found.get(name)]
        if differing:
            raise OptionError(
                f"{folder} holds predictions that were made of other things: {', '.join(differing)} differ. Give "
                "another folder, or remove this one"
            )

    def __repr__(self) -> str:
        return f"SourcePrediction of {self.num_rows:,} rows: to_parquet(folder), chunks() or in_memory() make it"


def _write(prediction: Prediction, path: Path, names: Sequence[str] | None) -> None:
    """All or nothing: under another name first."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        prediction.to_parquet(temporary, names)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def source_of(
    data: str | PathLike | AbstractSource, target: AbstractRowTarget, columns: Mapping[str, Any] | None
) -> tuple[AbstractSource, tuple[str, ...]]:
    """The source meant, and the inputs to predict from.

    Parameters
    ----------
    data
        A source, or the path, pattern or folder of Parquet or Arrow files.
    target
        What will predict.
    columns
        What the fit remembers of its columns; None takes the columns that are named as the inputs.
    """
    wanted = tuple(n for n, slot in target.slots.items() if slot.row_axis is not None and not slot.only_observed)
    if isinstance(data, AbstractSource):
        return data, tuple(name for name in data.inputs if name in wanted) or wanted
    chosen = dict(columns["columns"]) if columns else {name: name for name in wanted}
    mapping = {name: chosen[name] for name in wanted if name in chosen}
    used = {c for value in mapping.values() for c in ([value] if isinstance(value, str) else value)}
    labels = {name: known for name, known in (columns["categories"] if columns else {}).items() if name in used}
    make = arrow if str(data).endswith((".arrow", ".feather")) else parquet
    return make(data, mapping, categories=labels), tuple(mapping)


def digest(arrays: Sequence[np.ndarray]) -> str:
    """Of numbers, to tell one posterior from another."""
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
