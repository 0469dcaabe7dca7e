"""Blocks of rows: new rows are predicted in blocks of a few fixed sizes, so that one program serves any number of rows.

The last block is filled up by repeating its last row and the surplus is cut from the results. Repeating, not zeros:
a row of zeros may lie outside a model's support (a count of 0 trials, a category that does not exist).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SMALL_BLOCK = 32
LARGE_BLOCK = 2048
BLOCK_SIZES = (SMALL_BLOCK, LARGE_BLOCK)
MEMORY_BUDGET = 64 * 2**20
"""Bytes that the arrays of one block, or of one chunk of draws, may take."""

_SMALL_BLOCKS_PER_LARGE = 4
# A block costs about (600 + rows) units per draw (measured on the 2-5-5-1 network: 7 ms for 32 rows and 30 ms for
# 2,048 rows over 2,500 draws), so a large block costs as much as four small ones.


@dataclass(frozen=True)
class Block:
    """Rows ``start`` to ``stop`` of the data, evaluated as ``size`` rows (``size >= stop - start``)."""

    start: int
    stop: int
    size: int

    @property
    def num_rows(self) -> int:
        """Rows that are not padding."""
        return self.stop - self.start


def plan_blocks(num_rows: int, sizes: Sequence[int]) -> list[Block]:
    """Cut ``num_rows`` rows into blocks of one of ``sizes``.

    All blocks of a plan have the same size, so that a prediction needs one compiled program: the smallest size whose
    blocks are few, otherwise the largest.
    """
    sizes = sorted(sizes)
    size = next((s for s in sizes if num_rows <= _SMALL_BLOCKS_PER_LARGE * s), sizes[-1])
    return [Block(start, min(start + size, num_rows), size) for start in range(0, num_rows, size)]


def take_block(data: Mapping[str, np.ndarray], axes: Mapping[str, int], block: Block) -> dict[str, np.ndarray]:
    """The block's part of every array in ``data``: cut and padded along ``axes[name]``, whole if it has no axis."""
    if block.size == block.num_rows and all(data[name].shape[axis] == block.size for name, axis in axes.items()):
        return dict(data)
    index = np.minimum(np.arange(block.start, block.start + block.size), block.stop - 1)
    return {name: np.take(values, index, axis=axes[name]) if name in axes else values for name, values in data.items()}
