"""Where checkpoints go, how often, and how many are kept."""

import os
from dataclasses import dataclass

from posterion.errors import OptionError


@dataclass(frozen=True)
class Checkpoints:
    """Where a fit keeps its checkpoints, how often it writes one, and how many stay.

    Parameters
    ----------
    path
        A folder of its own for this fit; made if it is not there.
    every_seconds
        Seconds from one checkpoint to the next. One more is written at the end, and at Ctrl-C.
    keep
        Checkpoints that stay; older ones are deleted when a newer one is safely on the disk.

    Raises
    ------
    OptionError
        For seconds that are negative or fewer than one checkpoint to keep.

    Examples
    --------
    >>> from posterion import Checkpoints
    >>> Checkpoints("runs/clicks", every_seconds=300)
    Checkpoints(path='runs/clicks', every_seconds=300, keep=2)
    """

    path: str | os.PathLike
    every_seconds: int | float = 60.0
    keep: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike):
            raise OptionError(f"a folder for checkpoints is a path, not {self.path!r}")
        if not self.every_seconds >= 0:
            raise OptionError(f"every_seconds must be a number of seconds from 0 on, not {self.every_seconds!r}")
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 1:
            raise OptionError(f"keep must be a whole number from 1 on, not {self.keep!r}")
