"""Which files a path means: one, a list, a pattern or a folder; and what the names of its folders say."""

import glob
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path

from posterion.errors import DataError

Paths = str | PathLike | Sequence[str | PathLike]


def find_files(path: Paths, ending: str) -> tuple[list[Path], str]:
    """The files meant, sorted, and what DuckDB would call them."""
    if not isinstance(path, str | PathLike):
        listed = [find_files(one, ending)[0] for one in path]
        files = [file for part in listed for file in part]
        if not files:
            raise DataError("the list of files is empty")
        return files, fspath(files[0]) if len(files) == 1 else "', '".join(map(str, files[:3]))
    text = fspath(path)
    if Path(text).is_dir():
        files = sorted(file for file in Path(text).rglob(f"*{ending}") if not file.name.startswith((".", "_")))
        where = f"{text.rstrip('/')}/**/*{ending}"
    elif glob.has_magic(text) and not Path(text).exists():
        files, where = sorted(Path(file) for file in glob.glob(text, recursive=True)), text
    else:
        files, where = [Path(text)], text
        if not files[0].exists():
            raise DataError(f"there is no file or folder {text}")
    if not files:
        raise DataError(f"no file matches {where}")
    return files, where


def partition_keys(file: Path, root: Paths) -> dict[str, str | int]:
    """Columns that stand in the names of folders, as in ``year=2024/part-0.parquet``; whole numbers as such."""
    if not isinstance(root, str | PathLike) or not Path(fspath(root)).is_dir():
        return {}
    named = (part.partition("=") for part in file.relative_to(fspath(root)).parts[:-1] if "=" in part)
    return {key: int(value) if value.lstrip("-").isdigit() else value for key, _, value in named}
