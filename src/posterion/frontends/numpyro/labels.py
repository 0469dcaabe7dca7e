"""Names, dims and coords of a model's variables, as draws will carry them: from plates, and from what the user says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posterion.errors import OptionError
from posterion.frontends.numpyro.structure import Plates, Structure
from posterion.target import Layout, Variable

Dims = Mapping[str, Sequence[str | None]]
"""Names of the axes, by variable or input."""


def make_layout(
    structure: Structure,
    derived: Sequence[str],
    inputs: Mapping[str, tuple[int, ...]],
    dims: Dims,
    coords: Mapping[str, Sequence[Any]],
) -> Layout:
    """The layout of a model's latent sites.

    Parameters
    ----------
    structure
        The model's sites.
    derived
        Names of its deterministic sites that are kept.
    inputs
        Shapes of its arrays.
    dims, coords
        As the user gave them.

    Raises
    ------
    OptionError
        For dims of something that does not exist or has another number of axes, or coords of another length.
    """
    shapes = {name: latent.shape for name, latent in structure.latents.items()}
    shapes |= {name: shape for name, (shape, _) in structure.derived.items()}
    shapes |= {name: (*term.shape, *term.event) for name, term in structure.terms.items()} | dict(inputs)
    lengths = {name: plate.length for name, plate in structure.plates.items()}
    for name, named in dims.items():
        if name not in shapes:
            raise OptionError(f"dims names {name!r}, which the model does not have; it has {', '.join(shapes)}")
        if len(named) != len(shapes[name]):
            raise OptionError(f"dims of {name!r} must name {len(shapes[name])} axes, not {len(named)}: {list(named)}")
        lengths |= {dim: n for dim, n in zip(named, shapes[name], strict=True) if dim is not None}
    for dim, labels in coords.items():
        if dim in lengths and len(labels) != lengths[dim]:
            raise OptionError(f"coords of {dim!r} must hold {lengths[dim]} labels, not {len(labels)}")
    variables = tuple(
        Variable(name, latent.free_shape, latent.shape, dims_of(name, latent.shape, latent.plates, dims))
        for name, latent in structure.latents.items()
    )
    derived_dims = tuple((name, dims_of(name, *structure.derived[name], dims)) for name in derived)
    return Layout(variables, derived_dims, tuple((dim, plain_labels(labels)) for dim, labels in coords.items()))


def dims_of(name: str, shape: tuple[int, ...], plates: Plates, dims: Dims) -> tuple[str | None, ...]:
    """Names of a value's axes: the user's, or else the plates'; empty if none has a name."""
    if name in dims:
        return tuple(dims[name])
    plate_of = {axis: plate for plate, axis in plates}
    named = tuple(plate_of.get(axis) for axis in range(len(shape)))
    return named if any(named) else ()


def plain_labels(values: Sequence[Any]) -> tuple:
    """Labels as Python scalars: numbers and text as they are, dates as ISO text, everything else as text."""
    array = np.asarray(values)
    if array.dtype.kind in "mM":
        return tuple(map(str, array))
    return tuple(v if isinstance(v, str | int | float | bool) else str(v) for v in array.tolist())
