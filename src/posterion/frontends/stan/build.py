"""From a Stan program to a shared library, once: kept in the user's cache folder, under what it was made of.

A library is named by a digest of the program, of the files it includes, of our own C++, of the compiler, of what the
processor can do, and of the versions of Stan and of XLA's interface. Whoever needs one that is not there takes a lock
of that name, looks again, and compiles into a temporary folder from which the result is renamed into place: processes
and threads that want the same program at the same time compile it once, and a library that can be seen is whole.
"""

import atexit
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path

import jax
import jaxlib

from posterion.compilation.cache import cache_folder
from posterion.errors import UnsupportedModelError
from posterion.frontends.stan.program import Program
from posterion.frontends.stan.toolchain import Toolchain

_FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-shared", "-w"),
    "-fvisibility=hidden",  # programs loaded side by side must not share each other's symbols
    *("-DSTAN_THREADS", "-D_REENTRANT"),  # a tape of reverse mode for each thread
    *("-DBOOST_DISABLE_ASSERTS", "-DBOOST_PHOENIX_NO_VARIADIC_EXPRESSION"),
    # The wheel's TBB was built with the older of GCC's two string classes.
    *(("-D_GLIBCXX_USE_CXX11_ABI=0",) if sys.platform == "linux" else ()),
    *(("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()),
)
_WITHOUT_INTEGRATORS = ("-DSTAN_MATH_PRIM_FUNCTOR_ODE_RK45_HPP", "-DSTAN_MATH_PRIM_FUNCTOR_ODE_CKRK_HPP")
"""Guards of the headers that bring Boost's integrators: a fifth of all that the compiler reads, and of no use to
programs without differential equations."""
_SUNDIALS = ("sundials_cvodes", "sundials_idas", "sundials_kinsol", "sundials_nvecserial")
_ERROR_LINES = 6


def build_library(program: Program, toolchain: Toolchain, *, progress: bool = True) -> Path:
    """The program's shared library, compiled if it is not in the cache.

    Parameters
    ----------
    program
        What to compile.
    toolchain
        What to compile it with.
    progress
        Whether to say on standard error that it takes a while.

    Raises
    ------
    UnsupportedModelError
        If the C++ compiler fails, with its first words.
    """
    digest = _digest(program, toolchain)
    folder = _folder()
    library = folder / f"{digest}.so"
    if library.exists():
        return library
    with _locked(folder / f"{digest}.lock"):
        if not library.exists():
            _compile(program, toolchain, library, progress=progress)
    return library


def _compile(program: Program, toolchain: Toolchain, library: Path, *, progress: bool) -> None:
    if progress:
        print(f"Compiling {program.name} (about half a minute, once) ...", file=sys.stderr, flush=True)
    digest = library.stem
    with tempfile.TemporaryDirectory(prefix=f"{digest}-", dir=library.parent) as folder:
        source, shim, result = Path(folder, "program.cpp"), Path(folder, "shim.cpp"), Path(folder, library.name)
        code = program.to_cpp(toolchain, f"posterion_{digest}")
        source.write_text(code, encoding="utf-8")
        for name, text in _own_sources().items():
            Path(folder, name).write_text(text, encoding="utf-8")
        command = [
            *toolchain.compiler,
            *_FLAGS,
            *(*toolchain.processor_flags, *toolchain.collector_flags),
            *(() if "ode_" in code else _WITHOUT_INTEGRATORS),
            f'-DPROGRAM_CPP="{source}"',
            f"-I{toolchain.stan / 'include'}",
            f"-I{jax.ffi.include_dir()}",
            str(shim),
            *("-o", str(result)),
            str(toolchain.threading_library),
            f"-L{toolchain.stan / 'lib'}",
            *(f"-l{name}" for name in _SUNDIALS if (toolchain.stan / "lib" / f"lib{name}.a").exists()),
            f"-Wl,-rpath,{toolchain.stan / 'lib'}",
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0 or not result.exists():
            raise UnsupportedModelError(_why(program, toolchain, run))
        os.replace(result, library)


def _why(program: Program, toolchain: Toolchain, run: subprocess.CompletedProcess) -> str:
    lines = run.stderr.strip().splitlines()
    errors = [line for line in lines if "error" in line.lower()] or lines[-_ERROR_LINES:]
    said = "\n".join(errors[:_ERROR_LINES]) or f"nothing; its exit code was {run.returncode}"
    hint = ""
    if "killed" in run.stderr.lower() or run.returncode in (-9, 137):
        hint = " It was probably stopped for want of memory: about 2 GB are needed."
    return (
        f"the C++ compiler {toolchain.compiler[0]} ({toolchain.compiler_version.partition(chr(10))[0]}) could not "
        f"compile what stanc made of {program.name}.{hint} It said:\n{said}"
    )


def _digest(program: Program, toolchain: Toolchain) -> str:
    parts = [
        *(program.name, program.code, *program.included),  # the name stands in messages
        *_own_sources().values(),
        *(*_FLAGS, *_WITHOUT_INTEGRATORS),
        toolchain.stan_version,
        toolchain.compiler_version,
        jaxlib.__version__,
        *(platform.machine(), toolchain.processor),  # folders are shared between machines
    ]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:".encode() + part.encode())
    return whole.hexdigest()[:24]


@cache
def _own_sources() -> dict[str, str]:
    """Our own C++ by the name of its file."""
    folder = resources.files("posterion.frontends.stan")
    names = ("shim.cpp", "tanh.hpp", "model_base_crtp.hpp")
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}


def _folder() -> Path:
    programs = cache_folder()
    folder = _folder_of_this_process() if programs is None else programs.parent / "stan"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@cache
def _folder_of_this_process() -> Path:
    folder = tempfile.mkdtemp(prefix="posterion-stan-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system lets go of when its holder dies.

    The file is removed at the end, and somebody may be waiting for the removed one while a third makes another: then
    two hold "the" lock. They find the library that was made before, or compile it twice, into the same bytes.
    """
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
