"""`posterion fit` for models that somebody has written in PyMC, NumPyro or Stan."""

import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import posterion as po
from posterion.cli.listing import Listing
from posterion.errors import DataError, OptionError


def fit_written(what: str, data: str | None, *, method: str, out: Path, seed: int, as_json: bool, quiet: bool) -> None:
    """Fit, save as one file, and say what came of it.

    Parameters
    ----------
    what
        ``FILE.py:NAME`` or ``FILE.stan``.
    data
        A table with the inputs' names for columns, or a JSON file with values by name.
    method, seed
        For `posterion.fit`.
    out
        The file; its ending becomes ``.posterion``.
    as_json, quiet
        How to tell.
    """
    listing = Listing(quiet=quiet)
    model, options = _opened(what, {} if data is None else _values(data))
    approx = po.fit(model, method, random_seed=seed, progress=not quiet, **options)
    path = out if out.suffix else out.with_suffix(".posterion")
    approx.save(path)
    verdict = approx.diagnose()
    if as_json:
        found = {"posterior": str(path), "result": approx.result, "elbo": approx.elbo, "elbo_se": approx.elbo_se}
        found |= {"trustworthy": verdict.trustworthy, "reasons": list(verdict.reasons), "advice": list(verdict.advice)}
        print(json.dumps(found, indent=1, default=float))
        return
    listing.say(repr(approx))
    listing.say(f"\nPosterior in {path}. Next: posterion report {path}")


def _opened(what: str, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model, and what `posterion.fit` takes besides."""
    if what.endswith(".stan"):
        return po.stan(what, data=values), {}
    file, _, name = what.rpartition(":")
    model = _attribute(Path(file), name)
    if not inspect.isfunction(model):
        return model, {"data": values or None}
    parameters = inspect.signature(model).parameters
    if not parameters and not values:
        made = model()  # a function without arguments that builds a PyMC model, or is a NumPyro model itself
        return (made, {}) if made is not None else (model, {})
    unknown = sorted(set(values) - set(parameters))
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        raise DataError(f"the data have {unknown}, which {name} does not take; it takes {list(parameters)}")
    return model, {"model_kwargs": values}


def _attribute(file: Path, name: str) -> Any:
    if not file.is_file():
        raise OptionError(f"there is no file {str(file)!r}; expected FILE.py:NAME")
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None and specification.loader is not None  # a file that ends in .py  # noqa: S101
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        there = [one for one in vars(module) if not one.startswith("_")]
        raise OptionError(f"{file} has no {name!r}; it has {there}")
    return getattr(module, name)


def _values(path: str) -> dict[str, Any]:
    """Values by name: the columns of a table, or the members of a JSON object."""
    if path.endswith(".json"):
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path!r} cannot be read as JSON: {error}") from None
        if not isinstance(values, dict):
            raise DataError(f"{path!r} holds a {type(values).__name__}; expected an object of values by name")
        return values
    from posterion.tabular.reading import read_table

    frame = read_table(path)
    return {str(name): frame[name].to_numpy() for name in frame.columns}
