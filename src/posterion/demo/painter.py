"""Drawing pictures in a process of its own, while fits go on in this one.

Run as a program (``python -m posterion.demo.painter``) this module draws what it is asked for until nobody asks any
more. Matplotlib is Python and holds its lock: in a thread it would take the time from the fits. Questions and answers
are pickled, which is safe between two ends of one pipe; nothing is written to a file.
"""

import pickle
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from posterion.errors import PosterionError

if TYPE_CHECKING:
    from posterion.report import Picture


class Painter:
    """A process that draws the pictures of `posterion.demo.pictures`, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C, which ends a fit early, does not end this too
        )
        self._correspondent = ThreadPoolExecutor(1)

    def __enter__(self) -> "Painter":
        """Do nothing: it runs already."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the process; what it has not drawn by now, nobody waits for."""
        self._process.kill()
        self._correspondent.shutdown(cancel_futures=True)
        self._process.communicate()

    def draw(self, name: str, *shown: object) -> "Future[Picture]":
        """The picture of this name, to be waited for."""
        return self._correspondent.submit(self._ask, name, *shown)

    def _ask(self, name: str, *shown: object) -> "Picture":
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None and answers is not None  # noqa: S101 - they are pipes
        try:
            pickle.dump((name, *shown), asked)
            asked.flush()
            return pickle.load(answers)  # noqa: S301 - of our own process
        except (OSError, EOFError) as error:
            said = self._process.stderr.read().decode() if self._process.stderr else ""
            last = said.strip().splitlines()[-1] if said.strip() else f"exit code {self._process.wait()}"
            raise PosterionError(f"the process that draws pictures ended at {name!r}: {last}") from error


def _paint() -> None:
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever is printed is no answer
    from posterion.demo.pictures import draw

    while True:
        try:
            name, *shown = pickle.load(asked)  # noqa: S301 - of the process that started this one
        except EOFError:
            return
        pickle.dump(draw(name, *shown), answers)
        answers.flush()


if __name__ == "__main__":
    _paint()
