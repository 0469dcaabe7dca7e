"""Saving a posterior and loading it: parameters, record, and the exported functions that predict without the model."""

import dataclasses
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import PyTree
from posterion.errors import PosteriorFileError
from posterion.families import AbstractFamily
from posterion.families.describe import from_plain, to_plain
from posterion.posterior import store
from posterion.posterior.density import KIND, LoadedDensity, export_density
from posterion.posterior.export import export_target
from posterion.posterior.exported import LoadedTarget
from posterion.posterior.record import Comparison, FitRecord
from posterion.target import AbstractNetworkTarget, AbstractRowTarget, AbstractTarget, Layout
from posterion.target.linearised import LinearisedTarget

if TYPE_CHECKING:
    from posterion.posterior.posterior import Posterior


def save(posterior: "Posterior", path: str | PathLike) -> None:
    """Write a posterior to one file; see `Posterior.save`."""
    leaves = jax.tree.leaves(jax.device_get(posterior.params))
    arrays = {f"params/{k}": np.asarray(leaf) for k, leaf in enumerate(leaves)}
    arrays["log_weights"] = np.asarray(posterior.log_weights)
    arrays["losses"] = np.asarray(posterior.record.losses)
    arrays |= {f"extras/{name}": np.asarray(value) for name, value in posterior.record.extras.items()}
    functions, target = _functions_of(posterior)
    plain = [f.name for f in dataclasses.fields(FitRecord) if f.name not in ("losses", "extras")]
    record = {name: getattr(posterior.record, name) for name in plain}
    record["comparisons"] = [dataclasses.asdict(c) for c in posterior.record.comparisons]
    description = {"family": to_plain(posterior.family), "record": record, "target": target}
    if isinstance(posterior.target, LinearisedTarget):  # to bind it to the network again
        target["linearised"] = {"mode": posterior.target.mode.tolist(), "free": list(posterior.target.free)}
    store.write(path, arrays | functions, description)


def load(path: str | PathLike, *, bind: Callable[[], AbstractTarget] | None = None) -> "Posterior":
    """Read a posterior that `Posterior.save` wrote.

    Parameters
    ----------
    path
        The file.
    bind
        Gives the target of the model the posterior was fitted to: its functions then come from the model and not from
        the file, which is the way on when the exported functions have outlived the versions of JAX that read them.

    Raises
    ------
    PosteriorFileError
        If the file is not a saved posterior, is damaged, was written by a newer version, or does not fit the model.
    """
    from posterion.posterior.posterior import Posterior

    arrays, description = store.read(path)
    family = from_plain(description["family"])
    record = FitRecord(
        **{
            **description["record"],
            "notes": tuple(description["record"]["notes"]),
            "caveats": tuple(description["record"].get("caveats", ())),
            "comparisons": tuple(Comparison(**c) for c in description["record"]["comparisons"]),
            "losses": arrays["losses"],
            "extras": {name.removeprefix("extras/"): v for name, v in arrays.items() if name.startswith("extras/")},
        }
    )
    if bind is None:
        functions = {name: value for name, value in arrays.items() if name.startswith("target/")}
        loaded = LoadedDensity if description["target"].get("kind") == KIND else LoadedTarget
        target: AbstractTarget = loaded(functions, description["target"])
        data = None
    else:
        target = bind()
        tangent = description["target"].get("linearised")
        if tangent is not None and isinstance(target, AbstractNetworkTarget):
            if len(tangent["mode"]) != target.layout.size:
                raise PosteriorFileError(f"{path} is the posterior of another network, with other weights")
            target = LinearisedTarget(target, np.asarray(tangent["mode"]), tuple(tangent["free"]))
        data = dict(target.data)
        _check_same_variables(target.layout, description["target"], path)
    params = _params(family, target.layout, arrays, x64=record.x64)
    return Posterior(target, family, params, record, arrays["log_weights"], data=data)


def _functions_of(posterior: "Posterior") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    target = posterior.target
    if isinstance(target, LoadedTarget | LoadedDensity):  # a loaded posterior saves what it was loaded from
        return dict(target.arrays), dict(target.description)
    if not isinstance(target, AbstractRowTarget) or not (target.observed or target.row_names):
        return export_density(posterior)
    return export_target(target, x64=posterior.record.x64, example_data=posterior.fitted_data)


def _params(family: AbstractFamily, layout: Layout, arrays: dict[str, np.ndarray], *, x64: bool) -> PyTree:
    with jax.enable_x64(x64):
        zero = jnp.zeros(layout.size)
        shapes = jax.eval_shape(lambda z: family.init(layout, z, jax.random.key(0)), zero)
    expected, tree = jax.tree.flatten(shapes)
    leaves = [arrays.get(f"params/{k}") for k in range(len(expected))]
    for leaf, shape in zip(leaves, expected, strict=True):
        if leaf is None or leaf.shape != shape.shape:
            found = "nothing" if leaf is None else f"shape {leaf.shape}"
            raise PosteriorFileError(f"the file's parameters do not fit: expected shape {shape.shape}, found {found}")
    return jax.tree.unflatten(tree, leaves)


def _check_same_variables(layout: Layout, description: dict[str, Any], path: str | PathLike) -> None:
    saved = {v["name"]: tuple(v["shape"]) for v in description["layout"]["variables"]}
    found = {v.name: v.shape for v in layout.variables}
    if list(saved.items()) != list(found.items()):
        raise PosteriorFileError(
            f"the model is not the one {path} was fitted to: the file has the variables {saved}, the model {found} "
            "(names, unconstrained shapes and their order must agree)"
        )
