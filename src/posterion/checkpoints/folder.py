"""The folder: numbered checkpoints, the newest whole one, the last few kept, one fit at a time."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

from posterion.checkpoints import files
from posterion.errors import CheckpointError, CheckpointWarning

_NAME = re.compile(r"checkpoint-(\d+)\.safetensors")
_LOCK = ".in-use"


class Folder:
    """A folder of checkpoints, claimed by one fit.

    Parameters
    ----------
    path
        Where it is; made if it is not there.
    keep
        Checkpoints that stay.

    Raises
    ------
    CheckpointError
        If it cannot be made or written to, or another process is fitting in it.
    """

    def __init__(self, path: str | os.PathLike, keep: int) -> None:
        self.path, self._keep = Path(path), keep
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise CheckpointError(f"{self.path} is a file; checkpoints need a folder of their own") from None
        except OSError as error:
            raise CheckpointError(f"the folder {self.path} cannot be made: {error.strerror or error}") from error
        self._claim: int | None = self._take()
        for leftover in self.path.glob(".checkpoint-*.tmp"):  # of a fit that was killed while it wrote
            leftover.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another fit have the folder."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def newest(self) -> files.Page | None:
        """The newest checkpoint that is whole, or None if there are none at all.

        Raises
        ------
        CheckpointError
            If there are checkpoints and none of them is whole.
        """
        numbered = self._numbered()
        problems = []
        for _, path in reversed(numbered):
            try:
                page = files.read(path)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            if problems:
                warnings.warn(f"{'; '.join(problems)}: going on from {path.name}", CheckpointWarning, stacklevel=3)
            return page
        if problems:
            raise CheckpointError(
                f"no checkpoint in {self.path} can be read: {'; '.join(problems)}. Give another folder to start anew"
            )
        return None

    def write(self, page: files.Page) -> None:
        """Write the next checkpoint, then delete those that are too old.

        Raises
        ------
        CheckpointError
            If it cannot be written; the older ones are still there.
        """
        numbered = self._numbered()
        number = numbered[-1][0] + 1 if numbered else 1
        files.write(self.path / f"checkpoint-{number:06d}.safetensors", page)
        for _, path in numbered[: max(0, len(numbered) + 1 - self._keep)]:
            path.unlink(missing_ok=True)

    def _numbered(self) -> list[tuple[int, Path]]:
        found = ((_NAME.fullmatch(path.name), path) for path in self.path.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)

    def _take(self) -> int | None:
        """Claim the folder by a lock that the system gives back when the process ends, however it ends."""
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"the folder {self.path} cannot be written to ({error.strerror or error}): choose another one"
            ) from error
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise CheckpointError(
                f"another fit is writing its checkpoints to {self.path}: wait for it, or choose another folder"
            ) from None
        except OSError:  # a file system without locks
            pass
        return descriptor


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def differences(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 0.0) -> list[str]:
    """What differs between two fits, one line each; numbers may differ by ``tolerance``, relatively."""
    lines = []
    for name in sorted({*found, *wanted}):
        old, new = found.get(name), wanted.get(name)
        if not _same(old, new, tolerance):
            lines.append(f"{name}: {_short(old)} in the folder, {_short(new)} now")
    return lines


def _same(old: Any, new: Any, tolerance: float) -> bool:
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(_same(a, b, tolerance) for a, b in zip(old, new, strict=True))
    if isinstance(old, float) and isinstance(new, float):
        equal = old == new or (old != old and new != new)  # noqa: PLR0124  # missing numbers are equal here
        return equal or abs(old - new) <= tolerance * max(abs(old), abs(new))
    return old == new


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
