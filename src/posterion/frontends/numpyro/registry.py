"""What was made of a model is found again when the same function is fitted again with arguments of the same shapes.

A target of a second fit shares everything compiled with the first one's, and has data of its own. The last few are
kept; older ones live as long as somebody's posterior needs them. A function may compute something else than before
though it is the same object, because a global variable or an array it closes over has changed: so the model is traced
again, and what it computes is compared.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from posterion.frontends.numpyro.call import Call, identity
from posterion.frontends.numpyro.labels import Dims
from posterion.frontends.numpyro.start import Strategy
from posterion.frontends.numpyro.target import NumPyroTarget

MAX_TARGETS = 4
"""Targets kept though nobody else may need them."""

_lock = threading.RLock()
_known: "WeakValueDictionary[Hashable, NumPyroTarget]" = WeakValueDictionary()
_recent: "deque[NumPyroTarget]" = deque(maxlen=MAX_TARGETS)


def target_of(
    model: Callable,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    dims: Dims | None,
    coords: Mapping[str, Sequence[Any]] | None,
    strategy: Strategy | None,
) -> NumPyroTarget:
    """The target of a model called with some arguments; see `posterion.frontends.numpyro.from_numpyro`."""
    call = Call(model, args, kwargs)
    named = tuple((name, tuple(d)) for name, d in (dims or {}).items())
    labels = tuple((dim, tuple(map(repr, values))) for dim, values in (coords or {}).items())
    key = (call.identity(), named, labels, identity(strategy))
    target = NumPyroTarget(call, dims, coords, strategy)
    with _lock:
        known = _known.get(key)
        if known is not None and known.fingerprint == target.fingerprint:
            target = known.with_data(call.arrays)
        _known[key] = target
        _recent.append(target)
    return target
