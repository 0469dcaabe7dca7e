"""Stan programs: compiled once by stanc and a C++ compiler, then fitted like any other model."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from posterion.frontends.stan.build import build_library
from posterion.frontends.stan.data import read_data
from posterion.frontends.stan.library import load
from posterion.frontends.stan.program import read_program
from posterion.frontends.stan.rows import StanRowTarget, check_rows, read_batching
from posterion.frontends.stan.target import StanTarget
from posterion.frontends.stan.toolchain import find_toolchain

__all__ = ["StanRowTarget", "StanTarget", "stan"]


def stan(
    program: str | PathLike,
    data: Mapping[str, Any] | str | PathLike | None = None,
    *,
    dims: Mapping[str, Sequence[str | None]] | None = None,
    coords: Mapping[str, Any] | None = None,
    batch: Mapping[str, Any] | None = None,
    include_paths: Sequence[str | PathLike] = (),
    progress: bool = True,
) -> StanTarget | StanRowTarget:
    """A Stan program with data, ready for `posterion.fit`.

    The program is compiled the first time, which takes about half a minute, and found in the user's cache folder ever
    after; other data need no compilation.

    Parameters
    ----------
    program
        A file, or the program itself as text.
    data
        Values by name, or a JSON file of them. Names the program does not know are left out.
    dims
        Names of axes, by the program's variables and data.
    coords
        Labels, by dim.
    batch
        For mini-batches, the names of three kinds of data: ``{"rows": ["x", "y"], "size": "N", "scale": "scale"}`` says
        that the first axis of ``x`` and ``y`` is rows, that ``N`` is how many, and that the program multiplies their
        log likelihood by ``scale``. Then `fit` takes ``batch_size``. The scale need not be among the data.
    include_paths
        Folders that ``#include`` looks in, besides the program's own.
    progress
        Whether to say on standard error that the program is being compiled.

    Returns
    -------
    StanTarget or StanRowTarget
        For `fit`. Its draws carry parameters, transformed parameters and generated quantities by name.

    Raises
    ------
    MissingExtraError
        If Stan's files (``pip install 'posterion[stan]'``) or a C++ compiler are not installed.
    OptionError
        If there is no such file, or stanc finds an error; its message has the line.
    DataError
        If the data do not fit the program.
    UnsupportedModelError
        If the program has no parameters, takes tuples or complex numbers as data, or does not compile.

    Notes
    -----
    The density and its gradient are computed by Stan's own code, in double precision and on the processor, one draw
    after another. Second derivatives are central differences of gradients. A point that the program rejects counts as
    not finite: the step is skipped and counted.

    Examples
    --------
    >>> import posterion as po
    >>> coin = '''
    ... data { int n; int heads; }
    ... parameters { real<lower=0, upper=1> p; }
    ... model { heads ~ binomial(n, p); }
    ... '''
    >>> approx = po.fit(po.stan(coin, {"n": 10, "heads": 7}))  # doctest: +SKIP
    """
    toolchain = find_toolchain()
    text = read_program(program, toolchain, include_paths)
    if text.remarks:
        warnings.warn(f"stanc says of {text.name}:\n{text.remarks}", UserWarning, stacklevel=2)
    batching = None if batch is None else read_batching(batch, text)
    values = read_data(data)
    library = load(build_library(text, toolchain, progress=progress), toolchain.threading_library)
    if batching is None:
        return StanTarget(text, library, values, dims, coords)
    return StanRowTarget(StanTarget(text, library, check_rows(values, batching), dims, coords, batching))
