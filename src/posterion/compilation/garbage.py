"""No garbage collection while graphs are converted, traced and compiled.

Those make hundreds of thousands of objects that live on, and every so often Python walks through all objects of the
process to find none to free: with PyMC and JAX loaded one such walk takes a third of a second, as long as converting a
whole model does.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0
_was_enabled = False


@contextmanager
def uncollected() -> Iterator[None]:
    """Within, Python's garbage collector does not run by itself; after, it is as it was. Re-entrant, thread-safe.

    Only for work of bounded memory, such as building one program.
    """
    global _users, _was_enabled
    with _lock:
        if _users == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and _was_enabled:
                gc.enable()
