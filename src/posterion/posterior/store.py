"""The file of a saved posterior: one safetensors file of named arrays, with a description as JSON in its header.

The bytes can be read for years without Posterion, or any package: eight bytes with the length of the header
(little-endian), the header as JSON, then the arrays as raw little-endian numbers. The header's ``__metadata__`` holds
``posterion.format``, the version of this convention, and ``posterion.description``. See
``docs/developers/decisions/002-posterior-file.md``. Nothing is ever pickled, so a file from a stranger cannot run code.

Writing is atomic: a temporary file in the same folder, flushed to the disk, then renamed over the old one.
"""

import errno
import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from posterion.errors import PosteriorFileError

FORMAT = 1
_FORMAT_KEY, _DESCRIPTION_KEY = "posterion.format", "posterion.description"
_STORABLE = "fiub"
_NON_FINITE = "$number"


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Save arrays and a description to one file, all or nothing.

    Parameters
    ----------
    path
        Replaced if it exists, and left as it was if anything goes wrong.
    arrays
        Numbers and booleans; bytes go in as uint8 arrays (`from_bytes`).
    description
        Anything JSON can hold, NumPy scalars, and infinite or missing numbers besides. Tuples come back as lists.

    Raises
    ------
    PosteriorFileError
        If the file cannot be written: no such folder, no permission, a full disk.
    TypeError
        If an array or a part of the description is of a type that cannot be stored.
    """
    # Copies in C order: safetensors 0.8.0 silently writes wrong values for arrays that are not (its issue 825).
    tensors = {name: np.array(values, order="C", copy=True) for name, values in arrays.items()}
    for name, values in tensors.items():
        if values.dtype.kind not in _STORABLE or values.dtype.itemsize > 8:
            raise TypeError(f"the array {name!r} has the type {values.dtype}, which a posterior file cannot hold")
        if values.dtype.byteorder == ">":
            tensors[name] = values.astype(values.dtype.newbyteorder("<"))
    header = {_FORMAT_KEY: str(FORMAT), _DESCRIPTION_KEY: json.dumps(_encode(description), allow_nan=False)}
    _replace(Path(os.path.realpath(path)), safetensors.numpy.save(tensors, metadata=header))


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the description of a saved posterior.

    Raises
    ------
    PosteriorFileError
        If there is no such file, or it is not a saved posterior, is damaged, or was written by a newer version.
    """
    path = Path(path)
    if path.is_dir():
        raise PosteriorFileError(f"{path} is a folder, not a saved posterior; give the path of the file in it")
    try:
        with path.open("rb"):
            pass  # so that a missing file or permission is told apart from a damaged one
    except FileNotFoundError:
        raise PosteriorFileError(f"there is no file {path}; check the path (now in {Path.cwd()})") from None
    except OSError as error:
        raise PosteriorFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            _check_format(path, header)
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        description = _decode(json.loads(header[_DESCRIPTION_KEY]))
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, PosteriorFileError):
            raise
        raise PosteriorFileError(
            f"{path} is not a saved posterior, or is damaged (cut short while copying?): {error}. "
            "Files are made by `approx.save(path)`; take an intact copy or save it again"
        ) from error
    return arrays, description


def from_bytes(blob: bytes) -> np.ndarray:
    """Bytes as an array that can be stored."""
    return np.frombuffer(blob, np.uint8)


def to_bytes(values: np.ndarray) -> bytes:
    """The inverse of `from_bytes`."""
    return np.asarray(values, np.uint8).tobytes()


def _check_format(path: Path, header: Mapping[str, str]) -> None:
    if _FORMAT_KEY not in header:
        raise PosteriorFileError(
            f"{path} is a safetensors file, but not a posterior saved by Posterion; "
            "posterior files are made by `approx.save(path)`"
        )
    found = header[_FORMAT_KEY]
    if not found.isdecimal():
        raise PosteriorFileError(f"{path} is damaged: its format version reads {found!r}; take an intact copy")
    if int(found) > FORMAT:
        raise PosteriorFileError(
            f"{path} was saved by a newer Posterion (file format {found}, this version reads up to {FORMAT}); "
            "upgrade with: pip install --upgrade posterion"
        )


def _replace(path: Path, content: bytes) -> None:
    """Write ``content`` to a temporary file beside ``path``, force it to the disk, rename it to ``path``."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
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
    except OSError as error:
        raise PosteriorFileError(_reason(path, len(content), error)) from error
    _flush_folder(path.parent)


def _reason(path: Path, size: int, error: OSError) -> str:
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


def _encode(value: Any) -> Any:
    """Plain JSON: NumPy scalars unwrapped; infinite and missing numbers, unknown to JSON, as ``{"$number": "nan"}``."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_NON_FINITE: repr(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"names in the description of a posterior must be strings; found {key!r}")
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"the description of a posterior cannot hold a {type(value).__name__}: {value!r}")


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_NON_FINITE}:
            return float(value[_NON_FINITE])
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value
