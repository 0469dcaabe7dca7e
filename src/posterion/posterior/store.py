"""The file of a saved posterior: one safetensors file of named arrays, with a description as JSON in its header.

The bytes can be read for years without Posterion, or any package: eight bytes with the length of the header
(little-endian), the header as JSON, then the arrays as raw little-endian numbers. The header's ``__metadata__`` holds
``posterion.format``, the version of this convention, and ``posterion.description``. See
``docs/developers/decisions/002-posterior-file.md``. Nothing is ever pickled, so a file from a stranger cannot run code.

Writing is atomic: a temporary file in the same folder, flushed to the disk, then renamed over the old one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from posterion import _files
from posterion.errors import PosteriorFileError

FORMAT = 1
_FORMAT_KEY, _DESCRIPTION_KEY = "posterion.format", "posterion.description"


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
    tensors = _files.tensors_of(arrays, "a posterior file")
    header = {_FORMAT_KEY: str(FORMAT), _DESCRIPTION_KEY: json.dumps(_files.encode(description), allow_nan=False)}
    content, path = safetensors.numpy.save(tensors, metadata=header), Path(os.path.realpath(path))
    try:
        _files.replace(path, content)
    except OSError as error:
        raise PosteriorFileError(_files.reason(path, len(content), error)) from error


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
        description = _files.decode(json.loads(header[_DESCRIPTION_KEY]))
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
