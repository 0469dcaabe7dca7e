"""``python -m posterion`` is the command ``posterion``."""

from posterion.cli import main

main()
