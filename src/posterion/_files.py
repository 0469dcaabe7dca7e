"""Files of named arrays: all or nothing on the disk, plain JSON beside the arrays, and sentences for what goes wrong.

What `posterion.posterior.store` (posteriors) and `posterion.checkpoints` have in common. The bytes are safetensors';
nothing is ever pickled.
"""

import errno
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_STORABLE = "fiub"
_NON_FINITE = "$number"


def tensors_of(arrays: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Copies of the arrays in the order and the types that safetensors writes rightly.

    Raises
    ------
    TypeError
        If there is an array of a type that cannot be stored in ``what``.
    """
    # Copies in C order: safetensors 0.8.0 silently writes wrong values for arrays that are not (its issue 825).
    tensors = {name: np.array(values, order="C", copy=True) for name, values in arrays.items()}
    for name, values in tensors.items():
        if values.dtype.kind not in _STORABLE or values.dtype.itemsize > 8:
            raise TypeError(f"the array {name!r} has the type {values.dtype}, which {what} cannot hold")
        if values.dtype.byteorder == ">":
            tensors[name] = values.astype(values.dtype.newbyteorder("<"))
    return tensors


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path``, force it to the disk, rename it to ``path``.

    Raises
    ------
    OSError
        If that cannot be done; a file that was there before is then as it was, and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # Not tempfile.mkstemp, whose files only their owner may read: the user's umask decides, as for any file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def reason(path: Path, size: int, error: OSError) -> str:
    """Why a file of ``size`` bytes could not be written, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"cannot save to {path}: there is no folder {path.parent}; make it first"
    if isinstance(error, IsADirectoryError):
        return f"cannot save to {path}: it is a folder; give the name of a file in it"
    if isinstance(error, PermissionError):
        return f"cannot save to {path}: no permission to write in {path.parent}; choose another folder"
    kept = "a file that was there before is unchanged" if path.exists() else "nothing was left behind"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"cannot save to {path}: the disk is full or a limit is reached ({error.strerror}); {size / 2**20:.1f} MB "
            f"are needed. Free some space or choose another folder; {kept}"
        )
    return f"cannot save to {path}: {error.strerror or error}; {kept}"


def encode(value: Any) -> Any:
    """Plain JSON: NumPy scalars unwrapped; infinite and missing numbers, unknown to JSON, as ``{"$number": "nan"}``."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: repr(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"names in the description of a posterior must be strings; found {key!r}")
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"the description of a posterior cannot hold a {type(value).__name__}: {value!r}")


def decode(value: Any) -> Any:
    """The inverse of `encode`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_NON_FINITE}:
            return float(value[_NON_FINITE])
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def _flush_folder(folder: Path) -> None:
    """Force the renaming itself to the disk, where the operating system has a way."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems
        pass
    finally:
        os.close(descriptor)
