"""Overlays: other entries in somebody else's ``functools.singledispatch`` table, for as long as a context lasts.

PyTensor's conversion to JAX is three such tables (``jax_funcify``, ``jax_typify``, ``jax_sample_fn``). They are global,
so registering a repair there would change every other user of PyTensor's JAX backend in the process. An overlay puts
its entries in when the first context is entered and takes them out when the last one is left; while they are in, they
answer only to the threads (and asynchronous tasks) that are inside such a context, and pass everybody else on to
PyTensor's own.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_guard = threading.RLock()


class Overlay:
    """Entries laid over a ``singledispatch`` function.

    Parameters
    ----------
    dispatcher
        The function that ``functools.singledispatch`` made.
    entries
        Class to implementation.
    """

    def __init__(self, dispatcher: Callable, entries: Mapping[type, Callable]):
        self.dispatcher: Any = dispatcher
        self.entries = dict(entries)
        self._inside: ContextVar[bool] = ContextVar("posterion_overlay", default=False)
        self._num_users = 0
        self._stock: dict[type, Callable | None] = {}
        self._gates: dict[type, Callable] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within: the entries answer, in this thread. May be nested and entered by several threads at once."""
        with _guard:
            if self._num_users == 0:
                self._install()
            self._num_users += 1
        token = self._inside.set(True)
        try:
            yield
        finally:
            self._inside.reset(token)
            with _guard:
                self._num_users -= 1
                if self._num_users == 0:
                    self._remove()

    def _install(self) -> None:
        registry = self.dispatcher.registry
        # All of the stock answers are looked up before the first entry changes any of them by inheritance.
        answers = {cls: self.dispatcher.dispatch(cls) for cls in self.entries}
        self._stock = {cls: registry.get(cls) for cls in self.entries}
        self._gates = {cls: self._gate(ours, answers[cls]) for cls, ours in self.entries.items()}
        for cls, gate in self._gates.items():
            self.dispatcher.register(cls, gate)

    def _remove(self) -> None:
        for cls, gate in self._gates.items():
            if self.dispatcher.registry.get(cls) is not gate:
                continue  # somebody registered their own meanwhile: theirs stays
            stock = self._stock[cls]
            if stock is None:
                _delete(self.dispatcher, cls)
            else:
                self.dispatcher.register(cls, stock)
        self._gates, self._stock = {}, {}

    def _gate(self, ours: Callable, stock: Callable) -> Callable:
        @functools.wraps(ours)
        def gate(*args, **kwargs):
            return (ours if self._inside.get() else stock)(*args, **kwargs)

        return gate


def _delete(dispatcher: Any, cls: type) -> None:
    """Take an entry out of a ``singledispatch`` table, which the standard library offers no way to do."""
    table = inspect.getclosurevars(dispatcher.register).nonlocals["registry"]
    del table[cls]
    dispatcher._clear_cache()
