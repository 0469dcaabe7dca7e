"""Checkpoints of a fit: a folder of files, each whole by itself, the last of which a fit goes on from.

- `Checkpoints` says where, how often and how many.
- `files` writes one checkpoint and reads it; `folder` keeps the last few and finds the newest that is whole.
- `logbook` is what a fit writes into while it runs; the writing itself is done in a thread.
"""

from posterion.checkpoints.description import Checkpoints
from posterion.checkpoints.logbook import Logbook, logbook

__all__ = ["Checkpoints", "Logbook", "logbook"]
