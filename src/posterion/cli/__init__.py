"""The command ``posterion``: Typer commands over the public interface.

Exit codes: 0 when it is done, 1 when it failed with a message, 2 when it was called wrongly, 130 after Ctrl-C.
"""

import io
import sys
from collections.abc import Sequence

from posterion._optional import import_optional
from posterion.errors import PosterionError

FAILED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code; Posterion's errors are told in one message.

    Parameters
    ----------
    arguments
        As typed after ``posterion``; None for those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows another one
    try:
        import_optional("typer", "cli", "The command line")
        from posterion.cli.application import app

        app(args=arguments, prog_name="posterion")
    except (PosterionError, OSError) as error:
        if "--debug" in arguments:
            raise
        print(f"posterion: {error}", file=sys.stderr)
        sys.exit(FAILED)
