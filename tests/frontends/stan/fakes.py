"""A toolchain of two shell scripts, for everything about compiling that needs no compiler."""

import json
from pathlib import Path

from posterion.frontends.stan.program import Declaration, Program
from posterion.frontends.stan.toolchain import Toolchain

INFORMATION = {
    "inputs": {"N": {"type": "int", "dimensions": 0}, "y": {"type": "real", "dimensions": 1}},
    "parameters": {"mu": {"type": "real", "dimensions": 0}},
    "transformed parameters": {},
    "generated quantities": {"pair": {"type": [{"type": "int", "dimensions": 0}], "dimensions": 0}},
    "included_files": [],
}

# Leaves a file where it is called and knows two words: "broken" is an error, "odd" a remark.
_STANC = """#!/bin/sh
echo "$@" >> {folder}/stanc.log
touch stdin.hpp
code=$(cat)
case "$code" in *broken*) echo "Syntax error in 'model.stan', line 3" >&2; exit 1;; esac
case "$code" in *odd*) echo "Warning in 'model.stan', line 4" >&2;; esac
case "$*" in *--info*) cat {folder}/information.json;; *) echo "// C++ of: $code";; esac
"""

# Knows a processor unless that file is gone, takes a while, and either fails or writes what it was given.
_COMPILER = """#!/bin/sh
case "$1" in --version) echo "Fake C++ {version}"; exit 0;; -E) cat {folder}/processor; exit $?;; esac
echo "$@" >> {folder}/compiler.log
sleep 0.3
while [ "$1" != "-o" ]; do shift; done
if [ -e {folder}/fails ]; then echo "program.cpp:7: error: no such thing" >&2; exit 1; fi
echo "a library" > "$2"
"""


def fake_toolchain(folder: Path, version: str = "1.0", processor: str = "#define __AVX2__ 1") -> Toolchain:
    """Scripts in the folder, with logs of how often they were called beside them."""
    (folder / "include" / "stan").mkdir(parents=True, exist_ok=True)
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "processor").write_text(processor)
    (folder / "information.json").write_text(json.dumps(INFORMATION))
    for name, text in (("stanc", _STANC), ("compiler", _COMPILER)):
        (folder / name).write_text(text.format(folder=folder, version=version))
        (folder / name).chmod(0o755)
    return Toolchain(folder, "4.17.0", (str(folder / "compiler"),))


def calls(folder: Path, what: str) -> int:
    """How often a script has been called to do its work."""
    log = folder / f"{what}.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def program(**blocks: dict[str, tuple[str, int]]) -> Program:
    """A program that nobody has written, with these declarations by block."""
    declared = {
        block: {name: Declaration(*what) for name, what in blocks.get(block, {}).items()}
        for block in ("inputs", "parameters", "transformed", "generated")
    }
    return Program("model.stan", "", (), (), "", **declared)
