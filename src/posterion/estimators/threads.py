"""One BLAS thread for linear algebra on small matrices, where threads wait for each other longer than they work."""

from contextlib import AbstractContextManager
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    """Made once: looking for the libraries of a process takes longer than to predict a row."""
    return ThreadpoolController()


def one_thread() -> AbstractContextManager:
    """Within, each library for linear algebra uses one thread."""
    return _controller().limit(limits=1)
