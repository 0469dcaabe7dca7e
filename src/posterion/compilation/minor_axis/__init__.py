"""Batch-minor pass: the long row axis of every array is stored last, whatever the model's author wrote.

A network written ``tanh(X @ W)`` works on arrays of shape (rows, 5), and a processor that adds eight or sixteen
numbers at once is idle most of the time. ``tanh(W.T @ X.T)`` is the same network on arrays of shape (5, rows) and runs
up to three times faster. The pass makes the second out of the first: it traces a function to a jaxpr and evaluates
that again with every value ``v`` held as

    stored == transpose(v, order)

Only matrix products bring in a new order, because there it is free: ``(A @ B).T == B.T @ A.T``. Every other rule
carries the order of its operands along, and a primitive without a rule gets its operands as they were. The result is a
JAX function like any other; take its gradient, batch it, compile it afterwards.

- `batch_minor` wraps a function, `Statistics` says what the last trace did;
- `pack` stores data transposed once, outside the loop, as `Packed` leaves; `stacked` cuts batches from them, and
  `unpack` takes them back.
"""

from posterion.compilation.minor_axis.packing import Packed, pack, stacked, unpack
from posterion.compilation.minor_axis.wrapper import BatchMinor, Statistics, batch_minor

__all__ = ["BatchMinor", "Packed", "Statistics", "batch_minor", "pack", "stacked", "unpack"]
