"""A Stan program as text: where it comes from, what stanc says of it, and the names and types of its variables."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from posterion.errors import OptionError
from posterion.frontends.stan.toolchain import Toolchain

_BLOCKS = ("inputs", "parameters", "transformed parameters", "generated quantities")


@dataclass(frozen=True)
class Declaration:
    """What a program declares of one of its variables.

    Parameters
    ----------
    type
        "int", "real", "complex" or "tuple".
    dimensions
        Number of axes: 2 for a matrix or an array of vectors.
    """

    type: str
    dimensions: int


@dataclass(frozen=True)
class Program:
    """A program that stanc has read and found in order.

    Parameters
    ----------
    name
        What messages call it: the name of its file, or "program.stan" for text.
    code
        Its text.
    folders
        Where the files that it includes are looked for.
    included
        Texts of those files.
    remarks
        What stanc has to say of it though it accepts it; empty for nothing.
    inputs, parameters, transformed, generated
        The variables of its blocks, in order.
    """

    name: str
    code: str
    folders: tuple[Path, ...]
    included: tuple[str, ...]
    remarks: str
    inputs: Mapping[str, Declaration]
    parameters: Mapping[str, Declaration]
    transformed: Mapping[str, Declaration]
    generated: Mapping[str, Declaration]

    @property
    def outputs(self) -> dict[str, Declaration]:
        """Everything a draw has a value of."""
        return {**self.parameters, **self.transformed, **self.generated}

    def to_cpp(self, toolchain: Toolchain, class_name: str) -> str:
        """The program in C++, as a class of this name."""
        options = ("--O1", "--name", class_name, "--print-cpp")
        return _stanc(toolchain, self.name, self.code, self.folders, *options)[0]


def read_program(source: str | PathLike, toolchain: Toolchain, include_paths: Sequence[str | PathLike] = ()) -> Program:
    """Read a program and let stanc check it.

    Parameters
    ----------
    source
        A file, or the program itself: text with a line break or a brace is a program.
    toolchain
        Where stanc is.
    include_paths
        Further folders that ``#include`` looks in; the file's own is always one.

    Raises
    ------
    OptionError
        If there is no such file, or stanc finds an error: its message, with file and line.
    """
    folders = tuple(Path(folder).expanduser().resolve() for folder in include_paths)
    if isinstance(source, str) and ("\n" in source or "{" in source):
        name, code = "program.stan", source
    else:
        path = Path(source).expanduser()
        try:
            code = path.read_text(encoding="utf-8")
        except OSError as error:
            raise OptionError(
                f"cannot read the Stan program {path} ({error.strerror}): pass a file, or the program as text"
            ) from error
        name, folders = path.name, (path.resolve().parent, *folders)
    text, remarks = _stanc(toolchain, name, code, folders, "--info")
    found = json.loads(text)
    included = tuple(Path(file).read_text(encoding="utf-8") for file in found.get("included_files", ()))
    return Program(name, code, folders, included, remarks, *(_declarations(found[block]) for block in _BLOCKS))


def _stanc(toolchain: Toolchain, name: str, code: str, folders: tuple[Path, ...], *options: str) -> tuple[str, str]:
    """What stanc prints, and its remarks."""
    command = [str(toolchain.stanc), "--color=never", f"--filename-in-msg={name}", *options]
    if folders:
        command.append(f"--include-paths={','.join(map(str, folders))}")
    with tempfile.TemporaryDirectory(prefix="posterion-stan-") as folder:  # stanc leaves a file where it is called
        run = subprocess.run([*command, "-"], input=code, cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise OptionError(f"stanc does not accept {name}:\n{run.stderr.strip() or f'exit code {run.returncode}'}")
    return run.stdout, run.stderr.strip()


def _declarations(block: Mapping[str, Any]) -> dict[str, Declaration]:
    return {
        name: Declaration(what["type"] if isinstance(what["type"], str) else "tuple", int(what["dimensions"]))
        for name, what in block.items()
    }
