"""Compiled programs: each function is compiled once per shapes, ahead of time, and kept on disk for the next process.

XLA needs 0.3 to 1 second for one of our programs and a first fit needs several, so compiling dominates what a user
waits for. Three things are done about it: programs take data, rates and step counts as arguments, so that only new
shapes compile; several programs compile at the same time (`prepare`; XLA releases the interpreter lock); and JAX's
persistent compilation cache is switched on *around our own compilations only*, in the user's cache folder. Set the
environment variable ``POSTERION_CACHE`` to another folder, or to an empty string to do without; a folder that the user
has already given to JAX (``jax_compilation_cache_dir``) is left in charge.
"""

import functools
import hashlib
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from posterion.compilation import kept
from posterion.compilation.garbage import uncollected

logger = logging.getLogger(__name__)

_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_compilation_cache_max_size": 512 * 2**20,
}
_lock = threading.RLock()
_depth = 0
_saved: dict[str, Any] = {}


def cache_folder() -> Path | None:
    """The folder for compiled programs, or None if the cache is turned off.

    ``POSTERION_CACHE`` decides if it is set; otherwise the operating system's folder for caches. Programs compiled for
    one processor may crash on another, so the folder's name ends with a digest of the processor and of JAX's version.
    """
    chosen = os.environ.get("POSTERION_CACHE")
    if chosen == "":
        return None
    if chosen is not None:
        root = Path(chosen)
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches" / "posterion"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "posterion" / "cache"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posterion"
    return root / f"xla-{_machine_digest()}"


def _machine_digest() -> str:
    facts = [jax.__version__, jaxlib.__version__, platform.machine(), os.environ.get("XLA_FLAGS", "")]
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                facts.append(line)
                break
    except OSError:
        facts.append(platform.processor())
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


@contextmanager
def persistent_cache() -> Iterator[None]:
    """Within, JAX keeps compiled programs on disk; after, its settings are as they were. Re-entrant, thread-safe."""
    global _depth
    folder = cache_folder()
    with _lock:
        if _depth == 0:
            _saved.clear()
            if folder is not None and jax.config.jax_compilation_cache_dir is None:
                try:
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                except OSError as error:
                    logger.warning("compiled programs are not kept: %s cannot be made (%s)", folder, error)
                else:
                    for name, value in {**_SETTINGS, "jax_compilation_cache_dir": str(folder)}.items():
                        _saved[name] = getattr(jax.config, name)
                        jax.config.update(name, value)
                    compilation_cache.reset_cache()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _saved:
                for name, value in _saved.items():
                    jax.config.update(name, value)
                _saved.clear()
                compilation_cache.reset_cache()


class Stopwatch:
    """Seconds spent compiling while it runs; see `stopwatch`."""

    def __init__(self) -> None:
        self.seconds = 0.0


_watches: list[Stopwatch] = []


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the wall seconds this process spends tracing and compiling inside the block."""
    watch = Stopwatch()
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


def _count(seconds: float) -> None:
    for watch in _watches:
        watch.seconds += seconds


class Program:
    """A function compiled ahead of time, once per shapes and types of its arguments.

    Parameters
    ----------
    function
        A pure JAX function of arrays and pytrees of arrays.
    donate
        Positions of arguments whose buffers the program may reuse.
    quick
        Compile in half the time to a program up to three times as slow: for small work that is done a few times.
    everywhere
        For a program that several devices share: how an array lies that is the same on each. So do all results, and
        all arguments that are not on those devices already. None for one device.
    name
        Gives a digest of what the function computes, the same in every process, or None if there is none. A program
        with a name is kept on disk before it is compiled, too, and the next process does not trace it.
    """

    def __init__(
        self,
        function: Callable,
        donate: tuple[int, ...] = (),
        *,
        quick: bool = False,
        everywhere: jax.sharding.NamedSharding | None = None,
        name: Callable[[], str | None] | None = None,
    ) -> None:
        self._function, self._donate, self._everywhere, self._name = function, donate, everywhere, name
        self._jitted = jax.jit(function, donate_argnums=donate)
        self._options = {"xla_backend_optimization_level": 0} if quick else None
        self._compiled: dict[Any, Callable] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """Run, compiling first if these shapes are new."""
        return self._get(arguments, count=True)(*arguments)

    def lower(self, *arguments: Any) -> Callable[[], Callable]:
        """Trace and lower for arguments of these shapes; what is returned compiles, and may do so in another thread."""
        lowered, key = self._lowered(arguments), _signature(arguments)

        def compile_it() -> Callable:
            with self._lock:
                if key not in self._compiled:
                    with persistent_cache():
                        self._compiled[key] = lowered(self._options)
                return self._compiled[key]

        return compile_it

    def is_ready(self, *arguments: Any) -> bool:
        """Whether it is compiled for arguments of these shapes."""
        return _signature(arguments) in self._compiled

    def _jit(self, arguments: tuple) -> Any:
        everywhere = self._everywhere
        if everywhere is None:
            return self._jitted

        def lies(leaf: Any) -> jax.sharding.Sharding:
            there = isinstance(leaf, jax.Array) and leaf.sharding.device_set == everywhere.device_set
            return leaf.sharding if there else everywhere

        placed = jax.tree.map(lies, arguments)
        return jax.jit(self._function, donate_argnums=self._donate, in_shardings=placed, out_shardings=everywhere)

    def _lowered(self, arguments: tuple) -> Callable[[dict[str, Any] | None], Callable]:
        """What compiles the function, given XLA's options."""
        folder = cache_folder()
        with uncollected():
            if folder is not None and self._name is not None and (name := self._name()) is not None:
                try:
                    lowered, nest = kept.lowered(self._function, arguments, name, folder / "programs")
                except Exception:  # there is more that can be compiled than can be kept; errors of its own come again
                    logger.debug("%r cannot be kept", self._function, exc_info=True)
                else:
                    return lambda options: _OfLeaves(lowered.compile(compiler_options=options), nest)
            lowered = self._jit(arguments).lower(*arguments)
            return lambda options: lowered.compile(compiler_options=options)

    def _get(self, arguments: tuple, *, count: bool) -> Callable:
        program = self._compiled.get(_signature(arguments))
        if program is None:
            start = time.perf_counter()
            program = self.lower(*arguments)()
            if count:
                _count(time.perf_counter() - start)
        return program


class _OfLeaves:
    """A compiled program that takes and gives lists of arrays, as the function it was made of."""

    def __init__(self, compiled: Callable, nest: Callable[[list], Any]) -> None:
        self._compiled, self._nest = compiled, nest

    def __call__(self, *arguments: Any) -> Any:
        return self._nest(self._compiled(*jax.tree.leaves(arguments)))


def _signature(arguments: tuple) -> tuple:
    leaves, tree = jax.tree.flatten(arguments)
    x64 = bool(jax.config.jax_enable_x64)
    return tree, tuple(_type(leaf, x64=x64) for leaf in leaves), x64


def _type(leaf: Any, *, x64: bool) -> Any:
    return _type_of_numpy(leaf.shape, leaf.dtype, x64=x64) if type(leaf) is np.ndarray else jax.typeof(leaf)


@functools.lru_cache(4096)
def _type_of_numpy(shape: tuple[int, ...], dtype: np.dtype, *, x64: bool) -> Any:
    """`jax.typeof` of a NumPy array; kept, because asking takes a tenth of a call."""
    return jax.typeof(np.broadcast_to(np.empty((), dtype), shape))


def prepare(programs: Sequence[tuple[Program, tuple]], *, at_once: bool = True) -> None:
    """Compile several programs at the same time, or one after the other where several processes keep in step.

    Each is traced here and compiled in another thread while the next is traced: tracing takes the interpreter lock, for
    which two threads would only fight, compiling lets go of it. So the one that compiles longest goes first.
    """
    start = time.perf_counter()
    programs = [(program, arguments) for program, arguments in programs if not program.is_ready(*arguments)]
    if not programs:
        return
    x64 = bool(jax.config.jax_enable_x64)

    def one(compile_it: Callable[[], Callable]) -> None:
        with jax.enable_x64(x64):  # the flag is thread-local
            compile_it()

    workers = max(2, min(4, os.cpu_count() or 2)) if at_once else 1
    with persistent_cache(), uncollected(), ThreadPoolExecutor(max_workers=workers) as pool:
        for future in [pool.submit(one, program.lower(*arguments)) for program, arguments in programs]:
            future.result()
    _count(time.perf_counter() - start)
