"""Programs kept on disk before they are compiled, so that the next process neither traces nor lowers them.

JAX's own cache of compiled programs is asked only once a program has been traced and lowered, which for one of our fits
takes as long as running it. So a program whose function can be named (`fingerprint`) is exported: StableHLO as
`jax.export` writes it, and beside it how its results are nested. Compiled programs stay with JAX's cache. Nothing is
pickled. A file that is damaged, or of another version, is made anew.
"""

import itertools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

from posterion._files import replace
from posterion.compilation.fingerprint import digest_of

logger = logging.getLogger(__name__)

_MOST_FILES = 256
_OURS = ("posterion.", "optax.")
"""Where the named tuples come from that results are made of."""


def lowered(function: Callable, arguments: Sequence[Any], name: str, folder: Path) -> tuple[Any, Callable]:
    """The function of these arguments' leaves, lowered, and what nests the list of its results.

    Parameters
    ----------
    function, arguments
        What to lower, and for what.
    name
        A digest of what the function computes, whatever the arguments.
    folder
        Of the files.

    Raises
    ------
    Exception
        Whatever `jax.export` raises for a function that it cannot export, and JAX for one that it cannot trace.
    """
    leaves, tree = jax.tree.flatten(tuple(arguments))
    signature = [str(tree), *(f"{jax.typeof(leaf)}" for leaf in leaves), jax.default_backend()]
    path = folder / f"{digest_of(name, _versions(), *signature)[:32]}.stablehlo"
    found = _read(path)
    if found is None:
        found = _export(function, leaves, tree)
        _write(path, *found)
    exported, results = found
    return jax.jit(exported.call).lower(*leaves), lambda flat: _nested(results, iter(flat))


def _export(function: Callable, leaves: list, tree: Any) -> tuple[Any, Any]:
    description: Any = None

    def flat(*leaves: Any) -> list:
        nonlocal description
        results = function(*jax.tree.unflatten(tree, leaves))
        description = _described(results)
        return jax.tree.leaves(results)

    return jax.export.export(jax.jit(flat))(*leaves), description


def _read(path: Path) -> tuple[Any, Any] | None:
    try:
        header, _, content = path.read_bytes().partition(b"\n")
        results = json.loads(header)
        _nested(results, itertools.repeat(None))  # are its classes there?
        return jax.export.deserialize(bytearray(content)), results
    except FileNotFoundError:
        return None
    except Exception:  # whatever is wrong with it: it is made anew
        logger.debug("the kept program %s cannot be read", path, exc_info=True)
        return None


def _write(path: Path, exported: Any, results: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace(path, json.dumps(results).encode() + b"\n" + bytes(exported.serialize()))
        files = sorted(path.parent.glob("*.stablehlo"), key=lambda file: file.stat().st_mtime)
        for old in files[:-_MOST_FILES]:
            old.unlink(missing_ok=True)
    except OSError as error:
        logger.debug("a program is not kept: %s", error)


# ---- how results are nested, as JSON
def _described(tree: Any) -> Any:
    if tree is None:
        return None
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kind = type(tree)
        if _class(kind.__module__, kind.__name__) != kind:
            raise TypeError(f"results with a {kind} are not kept")
        return {"named": [kind.__module__, kind.__name__], "of": [_described(part) for part in tree]}
    if isinstance(tree, tuple | list):
        return {"tuple" if isinstance(tree, tuple) else "list": [_described(part) for part in tree]}
    if isinstance(tree, dict) and all(isinstance(key, str) for key in tree):
        return {"dict": {key: _described(tree[key]) for key in sorted(tree)}}
    if isinstance(tree, jax.Array | np.ndarray) and not jnp.issubdtype(tree.dtype, jax.dtypes.extended):
        return "array"
    raise TypeError(f"results with a {type(tree)} are not kept")


def _nested(description: Any, leaves: Any) -> Any:
    if description is None:
        return None
    if description == "array":
        return next(leaves)
    if "named" in description:
        return _class(*description["named"])(*(_nested(part, leaves) for part in description["of"]))
    if "dict" in description:
        return {key: _nested(part, leaves) for key, part in description["dict"].items()}
    [(kind, parts)] = description.items()
    return (tuple if kind == "tuple" else list)(_nested(part, leaves) for part in parts)


def _class(module: str, name: str) -> type:
    """A named tuple of ours; nothing else is called because a file says so."""
    found = getattr(sys.modules.get(module), name, None) if module.startswith(_OURS) else None
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise TypeError(f"results with a {module}.{name} are not kept")
    return found


@cache
def _versions() -> str:
    """Of whatever writes programs: JAX, optax, and our own modules by their size and time."""
    root = Path(__file__).parent.parent
    stats = sorted((str(file.relative_to(root)), file.stat()) for file in root.rglob("*.py"))
    ours = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return repr((jax.__version__, jaxlib.__version__, optax.__version__, sys.version_info[:3], ours))
