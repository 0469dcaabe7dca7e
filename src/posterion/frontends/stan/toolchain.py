"""The tools a Stan program is compiled with: stanc, Stan's headers, a C++ compiler.

The wheel of the package httpstan carries a whole Stan: stanc, the headers of Stan, its mathematics, Eigen, Boost and
TBB, and the libraries behind its differential equations. Only those files are used; the package itself is a server and
is never imported. The C++ compiler is the machine's own.
"""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from posterion.errors import MissingExtraError

_COMPILERS = ("g++", "clang++", "c++")
_HOW_TO_INSTALL = {
    "linux": "apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), or conda install gxx",
    "darwin": "xcode-select --install",
}

_ENOUGH_MEMORY = 4 * 2**30


@dataclass(frozen=True)
class Toolchain:
    """Where everything lies that turns a Stan program into a shared library.

    Parameters
    ----------
    stan
        The folder with ``stanc``, ``include`` and ``lib``.
    stan_version
        Of the package that folder belongs to.
    compiler
        The C++ compiler as a command; more than one word if the user's ``CXX`` says so.
    """

    stan: Path
    stan_version: str
    compiler: tuple[str, ...]

    @property
    def stanc(self) -> Path:
        """The program that translates Stan to C++."""
        return self.stan / "stanc"

    @property
    def threading_library(self) -> Path:
        """TBB, which every compiled program needs when it is loaded."""
        library = self.stan / "lib"
        names = ("libtbb.dylib",) if sys.platform == "darwin" else ("libtbb.so.2", "libtbb.so.12", "libtbb.so")
        return next((library / name for name in names if (library / name).exists()), library / names[0])

    @cached_property
    def compiler_version(self) -> str:
        """What the compiler says of itself."""
        run = subprocess.run([*self.compiler, "--version"], capture_output=True, text=True, check=False)
        return (run.stdout or run.stderr).strip()

    @cached_property
    def processor(self) -> str:
        """What this machine's processor can do, as macros of the compiler; empty if it has no ``-march=native``."""
        command = [*self.compiler, "-E", "-dM", "-march=native", "-x", "c++", os.devnull]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.stdout if run.returncode == 0 else ""

    @property
    def collector_flags(self) -> tuple[str, ...]:
        """Lets GCC collect its garbage late, which saves a twentieth of its time, where there is memory enough."""
        gcc = "Free Software Foundation" in self.compiler_version
        return ("--param=ggc-min-heapsize=1048576",) if gcc and _memory() >= _ENOUGH_MEMORY else ()

    @property
    def processor_flags(self) -> tuple[str, ...]:
        """Lets the compiler use all of it: wide vectors halve the time of a network's density."""
        return ("-march=native",) if self.processor else ()


def find_toolchain() -> Toolchain:
    """Stan's files and a C++ compiler.

    Raises
    ------
    MissingExtraError
        If either is not there, with what to install.
    """
    stan = _stan_folder()
    return Toolchain(stan, importlib.metadata.version("httpstan"), _compiler())


def _memory() -> int:
    """Bytes of memory that this machine has, or 0 if it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _stan_folder() -> Path:
    found = importlib.util.find_spec("httpstan")  # looks for the package without importing it
    folders = [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]
    for folder in folders:
        if (folder / "stanc").exists() and (folder / "include" / "stan").is_dir():
            return folder
    state = "which is not installed" if not folders else f"but {folders[0]} holds no stanc: it was not installed whole"
    raise MissingExtraError(
        f"Stan programs need the package 'httpstan', {state}. Install it with: pip install 'posterion[stan]'"
    )


def _compiler() -> tuple[str, ...]:
    chosen = shlex.split(os.environ.get("CXX", ""))
    for candidate in [chosen] if chosen else [[name] for name in _COMPILERS]:
        if shutil.which(candidate[0]):
            return tuple(candidate)
    looked = f"{chosen[0]}, which CXX names" if chosen else ", ".join(_COMPILERS)
    how = _HOW_TO_INSTALL.get(sys.platform, "see your system's packages")
    raise MissingExtraError(
        f"Stan programs are compiled on your machine, and there is no C++ compiler here (looked for {looked}). "
        f"Install one: {how}"
    )
