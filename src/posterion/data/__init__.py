"""Sources of rows, in memory or beyond it, for `posterion.fit` and for predictions.

A source is made by one of the functions here and given to ``posterion.fit(model, data=source, batch_size=...)``, where
it replaces the rows the model was built on, or to ``posterior.predict(source)``.
"""

from posterion.data.arrays import arrays, memory_map, zarr
from posterion.data.iterators import iterator
from posterion.data.joined import together
from posterion.data.source import AbstractSource
from posterion.data.tables import arrow, frame, parquet

__all__ = ["AbstractSource", "arrays", "arrow", "frame", "iterator", "memory_map", "parquet", "together", "zarr"]
