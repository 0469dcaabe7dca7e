"""What a fit writes into while it runs: a checkpoint when one is due, in a thread, and one at the end.

A checkpoint that cannot be written does not end a fit: the older one stays, the user is warned, and the next one is
tried. Only the arrays are copied while the fit waits.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np

from posterion.checkpoints import files
from posterion.checkpoints.description import Checkpoints
from posterion.checkpoints.files import Page
from posterion.checkpoints.folder import Folder, differences
from posterion.distributed import SOLO, Team
from posterion.errors import CheckpointError, CheckpointWarning

Written = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays by name, and plain values."""


class Logbook:
    """The checkpoints of one fit.

    Parameters
    ----------
    folder
        Where they go; None in a process that does not write.
    page
        The newest one there is.
    every_seconds
        From one to the next.
    name
        Of the folder, for messages.
    """

    def __init__(self, folder: Folder | None, page: Page | None, every_seconds: int | float, name: str) -> None:
        self._folder, self._page, self._every, self._name = folder, page, every_seconds, name
        self._identity: dict[str, Any] = {}
        self._last = time.monotonic()
        self._writer: threading.Thread | None = None
        self._failure: CheckpointError | None = None
        self._warned = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """Of the fit in the folder; empty if there is none."""
        return {} if self._page is None else self._page.identity

    def claim(self, identity: Mapping[str, Any], tolerance: float) -> None:
        """Say which fit this is.

        Raises
        ------
        CheckpointError
            If the folder holds another; the message says what differs.
        """
        self._identity = dict(identity)
        if self._page is None:
            return
        lines = differences(dict(self._page.identity), self._identity, tolerance)
        if lines:
            raise CheckpointError(
                f"{self._name} holds the checkpoints of another fit, which this one cannot go on from:\n  "
                + "\n  ".join(lines)
                + "\nCall it with the same model, data and options to go on, or give another folder"
            )

    def read(self) -> Written | None:
        """The newest checkpoint, or None."""
        return None if self._page is None else (dict(self._page.arrays), dict(self._page.values))

    def offer(self, make: Callable[[], Written]) -> None:
        """Write what ``make`` gives if a checkpoint is due and the one before is on the disk; does not wait."""
        if self._folder is None:
            return
        if self._writer is not None and not self._writer.is_alive():
            self._finish_writing()
        if self._writer is not None or time.monotonic() - self._last < self._every:
            return
        page = Page(*make(), self._identity)
        self._writer = threading.Thread(target=self._write, args=(page,), name="posterion checkpoint")
        self._writer.start()

    def put(self, written: Written) -> None:
        """Write this now, and wait until it is on the disk."""
        if self._folder is None:
            return
        self._finish_writing()
        self._write(Page(*written, self._identity))
        self._finish_writing()

    def wait(self) -> None:
        """Wait for a checkpoint that is being written."""
        self._finish_writing()

    def _write(self, page: Page) -> None:
        assert self._folder is not None  # only then is anything written  # noqa: S101
        try:
            self._folder.write(page)
            self._warned = False
        except CheckpointError as error:
            self._failure = error
        except OSError as error:  # the folder itself is gone or unreadable
            self._failure = CheckpointError(f"{self._name}: {error.strerror or error}")
        self._last = time.monotonic()

    def _finish_writing(self) -> None:
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            if not self._warned:  # once is enough for a disk that stays full
                warnings.warn(f"a checkpoint was not written: {failure}", CheckpointWarning, stacklevel=4)
            self._warned = True


@contextmanager
def logbook(checkpoint: str | PathLike | Checkpoints | None, team: Team = SOLO) -> Iterator[Logbook | None]:
    """The logbook of a fit with this ``checkpoint=`` argument, or None without; closed at the end.

    Of several processes only the one that leads opens the folder, and tells the others what it found.

    Raises
    ------
    CheckpointError
        If the folder cannot be used.
    OptionError
        If ``checkpoint`` is neither a path nor `Checkpoints`.
    """
    if checkpoint is None:
        yield None
        return
    wanted = checkpoint if isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint)
    folder = page = None
    try:
        try:
            if team.leads:
                folder = Folder(wanted.path, wanted.keep)
                page = folder.newest()
            problem = team.agree_on_bytes(None)
        except CheckpointError as error:
            problem = team.agree_on_bytes(str(error).encode())
        if problem is not None:
            raise CheckpointError(problem.decode())
        content = team.agree_on_bytes(files.to_bytes(page) if page and team.num_processes > 1 else None)
        if content is not None and not team.leads:
            page = files.from_bytes(content, str(wanted.path))
        book = Logbook(folder, page, wanted.every_seconds, str(wanted.path))
        try:
            yield book
        finally:
            book.wait()
    finally:
        if folder is not None:
            folder.close()
