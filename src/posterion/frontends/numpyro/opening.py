"""Opening a model: which arrays have to be parts of it, what it is made of, and where its rows may be."""

from collections.abc import Mapping
from dataclasses import replace

import jax

from posterion.errors import UnsupportedModelError
from posterion.frontends.arrays import abstract
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.run import Setting
from posterion.frontends.numpyro.structure import Structure, describe
from posterion.frontends.rows import RowGroup, Shapes, first_line

_VALUES_NEEDED = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def shapes_of(structure: Structure) -> Shapes:
    """The shapes of everything that may follow the rows."""
    return Shapes(
        {name: term.shape for name, term in structure.terms.items()},
        {name: shape for name, (shape, _) in structure.derived.items()},
        {name: latent.free_shape for name, latent in structure.latents.items()},
    )


def settle(call: Call) -> tuple[frozenset[str], Structure]:
    """The model's structure, with as few arrays as possible taken for parts of the model."""
    setting = Setting(row_counts=frozenset(n for array in call.arrays.values() for n in array.shape[:1]))
    slots, first = call.slots(), None
    for frozen in _to_freeze(call):
        shapes = {n: abstract(slots[n], a.shape) for n, a in call.arrays.items() if n not in frozen}
        try:
            return frozenset(frozen), describe(call, shapes, setting)
        except _VALUES_NEEDED as error:
            first = first or error
    raise UnsupportedModelError(
        "the model asks for values that JAX only traces, and taking its arguments as fixed does not help: "
        f"{first_line(first) if first else ''}. The usual causes are NumPy applied to random variables, a NumPy array "
        "indexed by a plate's rows (use jax.numpy), and an `if` on a random variable (use jnp.where)."
    ) from first


def _to_freeze(call: Call) -> list[tuple[str, ...]]:
    """Sets of arrays to try, in order: nothing, single numbers, one array of whole numbers, any one array, all."""
    arrays = call.arrays
    scalars = tuple(name for name, a in arrays.items() if a.ndim == 0)
    whole = [name for name, a in arrays.items() if a.ndim and a.dtype.kind in "biu"]
    rest = [name for name, a in arrays.items() if a.ndim and a.dtype.kind == "f"]
    tries = [(), scalars, *((*scalars, name) for name in whole), (*scalars, *whole)]
    tries += [(*scalars, name) for name in rest] + [tuple(arrays)]
    return list(dict.fromkeys(tries))


def row_axes(structure: Structure) -> dict[str, int]:
    """The first axis of each term that is not a plate of latent sites, if there is another; none for scalars."""
    with_latents = {plate for latent in structure.latents.values() for plate, _ in latent.plates}
    axes = {}
    for name, term in structure.terms.items():
        plate_of = {axis: plate for plate, axis in term.plates}
        longer = [axis for axis, length in enumerate(term.shape) if length > 1] or list(range(len(term.shape)))[:1]
        shared = [axis for axis in longer if plate_of.get(axis) not in with_latents]
        if longer:
            axes[name] = (shared or longer)[0]
    return axes


def seeds_of(structure: Structure, row_axis: Mapping[str, int]) -> list[RowGroup]:
    """One seed per plate of rows, or per number of rows where there is no plate; factors alone only where they must."""
    seeds: dict[tuple, RowGroup] = {}
    for is_factor in (False, True):
        for name, axis in row_axis.items():
            term = structure.terms[name]
            plates = tuple(plate for plate, at in term.plates if at == axis)
            rows = term.shape[axis]
            if term.is_factor != is_factor or (is_factor and (rows == 1 or not plates)):
                continue
            if is_factor and any(seed.num_rows == rows for seed in seeds.values()):
                continue
            key = plates or (rows,)
            known = seeds.get(key, RowGroup(rows, plates[0] if plates else None, (), plates=plates))
            seeds[key] = replace(known, terms=(*known.terms, (name, axis)))
    return list(seeds.values())
