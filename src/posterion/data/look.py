"""A look at a source before a fit: a sample of its rows, all of them, and whether they are sorted.

Windows mix a handful of neighbouring chunks. If the rows of a file are sorted, by outcome or by time, a window of 16
chunks can hold one class alone, and the steps of a fit follow the file up and down. That is seen from the chunks'
means: in random order they differ by no more than s / sqrt(rows), and any share of the variance beyond that is drift.
"""

import numpy as np

from posterion.data.iterators import IteratorSource
from posterion.data.source import AbstractChunkSource, AbstractSource, concatenate
from posterion.data.windows import Prepare, Rows, chunks_per_window
from posterion.errors import DataError

_CHUNKS_LOOKED_AT = 16
_CHUNKS_SAMPLED = 64
_DRIFT_SHARE = 0.02
"""Share of a column's variance between chunks from which it counts as sorted: windows of 16 chunks then differ by
3.5 % of a standard deviation, more than batches of 512 rows do by chance."""
_CLEARLY = 10.0
"""How many times larger than by chance the chunks' means must vary."""
_MOST_COLUMNS = 64


def read_all(source: AbstractSource, prepare: Prepare) -> Rows:
    """All rows, in the order they are stored in."""
    if isinstance(source, AbstractChunkSource):
        chunks = range(source.num_chunks)
        return concatenate([prepare(source.read_checked(k), source.place(k)) for k in chunks])
    assert isinstance(source, IteratorSource)  # there are two kinds  # noqa: S101
    return concatenate([prepare(part, "the iterator") for part in source.epoch()])


def sample(source: AbstractSource, count: int, seed: int, prepare: Prepare) -> Rows:
    """About ``count`` rows: parts of 64 chunks drawn at random, or the first rows of an iterator."""
    random = np.random.default_rng(seed)
    parts: list[Rows] = []
    if isinstance(source, IteratorSource):
        have = 0
        for part in source.epoch():
            part = prepare(part, "the iterator")
            parts.append({name: array[: count - have] for name, array in part.items()})
            have += len(next(iter(parts[-1].values())))
            if have >= count:
                break
        return concatenate(parts)
    assert isinstance(source, AbstractChunkSource)  # there are two kinds  # noqa: S101
    chosen = random.choice(source.num_chunks, min(_CHUNKS_SAMPLED, source.num_chunks), replace=False)
    share = min(1.0, count / int(source.chunk_rows[chosen].sum()))
    for chunk in np.sort(chosen):
        rows = int(source.chunk_rows[chunk])
        kept = np.sort(random.choice(rows, max(1, round(share * rows)), replace=False))
        arrays = prepare(source.read_checked(int(chunk)), source.place(int(chunk)))
        parts.append({name: array[kept] for name, array in arrays.items()})
    return concatenate(parts)


def drift(source: AbstractSource) -> str:
    """A sentence for the user if the rows are sorted by something, empty if they are not, or if that does no harm."""
    if not isinstance(source, AbstractChunkSource) or source.num_chunks <= 2 * chunks_per_window(source):
        return ""
    chosen = np.unique(np.linspace(0, source.num_chunks - 1, _CHUNKS_LOOKED_AT).astype(int))
    chunks = [source.read_checked(int(k)) for k in chosen]
    rows = np.array([len(next(iter(chunk.values()))) for chunk in chunks])
    found = []
    for name in source.inputs:
        columns = [np.reshape(chunk[name], (len(chunk[name]), -1))[:, :_MOST_COLUMNS] for chunk in chunks]
        means = np.stack([np.mean(c, axis=0, dtype=np.float64) for c in columns])
        within = np.mean([np.var(c, axis=0, dtype=np.float64) for c in columns], axis=0)
        by_chance = within * np.mean(1 / rows)
        between = np.var(means, axis=0, ddof=1)
        share = np.maximum(between - by_chance, 0) / np.maximum(within + between, np.finfo(float).tiny)
        clear = (share > _DRIFT_SHARE) & (between > _CLEARLY * by_chance)
        for k in np.flatnonzero(clear):
            found.append((float(share[k]), name if chunks[0][name].ndim == 1 else f"{name}[{k}]"))
    if not found:
        return ""
    worst = ", ".join(f"{name} ({share:.0%})" for share, name in sorted(found, reverse=True)[:5])
    return (
        f"the rows look sorted: a share of the variance lies between chunks, not within them: {worst}. Batches are "
        f"drawn from {chunks_per_window(source)} of {source.num_chunks} chunks at a time, so neighbouring steps will "
        f"see rows that are alike, and the fit is noisier than it need be. {source.how_to_shuffle}"
    )


def refuse_too_large(source: AbstractSource, limit: int, why: str) -> None:
    """An error if reading all rows would take more than ``limit`` bytes."""
    needed = source.num_rows * source.bytes_per_row
    if needed > limit:
        raise DataError(
            f"{why} needs all {source.num_rows:,} rows in memory, {needed / 2**30:.1f} GB, which is more than half of "
            "this machine's memory. Pass batch_size= with method='advi' to stream them, or fewer rows"
        )
