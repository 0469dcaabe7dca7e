"""One checkpoint: a safetensors file of arrays, with plain values as JSON in its header and a checksum of each array.

A file is written beside its place and renamed into it when it is safely on the disk, so a process that is killed leaves
a whole file or none. The checksums find what a power failure or a bad disk did to a file that was whole.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from posterion import _files
from posterion.errors import CheckpointError

FORMAT = 1
_FORMAT_KEY, _VALUES_KEY, _SUMS_KEY = "posterion.checkpoint", "posterion.values", "posterion.checksums"


@dataclass(frozen=True)
class Page:
    """What one checkpoint holds.

    Parameters
    ----------
    arrays
        By name.
    values
        Anything JSON can hold, infinite or missing numbers besides; tuples come back as lists.
    identity
        What makes the fit this one and no other, likewise.
    """

    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]
    identity: Mapping[str, Any]


def write(path: Path, page: Page) -> None:
    """Write a checkpoint, all or nothing.

    Raises
    ------
    CheckpointError
        If it cannot be written; the message says why and what to do.
    """
    content = to_bytes(page)
    try:
        _files.replace(path, content)
    except OSError as error:
        raise CheckpointError(_files.reason(path, len(content), error)) from error


def to_bytes(page: Page) -> bytes:
    """The content of a checkpoint's file."""
    tensors = _files.tensors_of(page.arrays, "a checkpoint")
    values = _files.encode({"values": page.values, "identity": page.identity})
    header = {
        _FORMAT_KEY: str(FORMAT),
        _VALUES_KEY: json.dumps(values, allow_nan=False),
        _SUMS_KEY: json.dumps({name: _checksum(tensor) for name, tensor in tensors.items()}),
    }
    return safetensors.numpy.save(tensors, metadata=header)


def read(path: Path) -> Page:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If it is damaged, was written by a newer version, or cannot be read.
    """
    try:
        return from_bytes(path.read_bytes(), str(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def from_bytes(content: bytes, path: str) -> Page:
    """The inverse of `to_bytes`; ``path`` is for the messages.

    Raises
    ------
    CheckpointError
        As `read`.
    """
    try:
        arrays = safetensors.numpy.load(content)  # checks the header before we read in it
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])["__metadata__"]
        if int(header[_FORMAT_KEY]) > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer Posterion (format {header[_FORMAT_KEY]}, this version reads up to "
                f"{FORMAT}); upgrade with: pip install --upgrade posterion"
            )
        for name, expected in json.loads(header[_SUMS_KEY]).items():
            if _checksum(arrays[name]) != expected:
                raise CheckpointError(f"{path} is damaged: the checksum of {name!r} is wrong")
        both = _files.decode(json.loads(header[_VALUES_KEY]))
        return Page(arrays, both["values"], both["identity"])
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({error})") from error


def _checksum(tensor: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(tensor).view(np.uint8).data) if tensor.size else 0
