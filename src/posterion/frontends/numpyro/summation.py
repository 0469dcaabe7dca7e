"""Discrete sites that a model leaves open, summed out exactly over all their values.

A discrete site with one entry per row, such as the component of a mixture, is summed out row by row:

    log p(y_i | z) = log sum_k p(k | z) p(y_i | k, z)

and the rows stay rows, in batches and in predictions. A few discrete sites that rows share are summed out of the whole
density. Anything larger is left to funsor, if it is installed, as NumPyro does.
"""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from posterion._typing import Array, Data
from posterion.errors import UnsupportedModelError
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.run import Setting, under_handlers
from posterion.frontends.numpyro.structure import Discrete, Structure
from posterion.frontends.rows import RowGroup
from posterion.target import Moments

MAX_STATES = 256
"""Combinations of values that are summed over; the model is evaluated once for each of them."""


@dataclass(frozen=True)
class Summation:
    """What is summed out, and of what.

    Parameters
    ----------
    states
        By discrete site, its value's number in each combination: (combinations,) where every row has one of its own,
        (combinations, ...) of the site's shape otherwise.
    dependents
        The observed sites and factors that depend on them.
    by_row
        Whether each row is summed over by itself.
    by_funsor
        Whether funsor does it, for the whole density.
    """

    states: Mapping[str, np.ndarray]
    dependents: tuple[str, ...]
    by_row: bool
    by_funsor: bool = False

    @property
    def label(self) -> str:
        """Name of the term that is left: that of the observed site, if there is one only."""
        return " and ".join(self.dependents or tuple(self.states))

    def reduce(self, terms: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> dict[str, Array]:
        """All terms of the log density, with those that depend on discrete sites summed to one.

        Parameters
        ----------
        terms
            ``terms(states)`` gives the terms by name for one combination of states: rows (if summed by row) or scalars.
        """
        inside = {*self.dependents, *self.states}

        def split(states: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
            found = terms(states)
            total = sum(term for name, term in found.items() if name in inside)
            return jnp.asarray(total), {name: term for name, term in found.items() if name not in inside}

        totals, others = jax.vmap(split, out_axes=(0, None))(self._arrays())
        return others | {self.label: jax.nn.logsumexp(totals, axis=0)}

    def mix(
        self, parts: Callable[[Mapping[str, Array]], tuple[Mapping[str, Array], Mapping[str, Moments]]]
    ) -> dict[str, Moments]:
        """Moments over the discrete sites' own distribution.

        Parameters
        ----------
        parts
            ``parts(states)`` gives the discrete sites' log probabilities per row, and the moments given the states,
            rows first.
        """
        logs, moments = jax.vmap(parts)(self._arrays())
        weights = jnp.exp(sum(logs.values()))  # (combinations, rows), one in all for every row
        mixed = {}
        for name, (mean, variance) in moments.items():
            share = weights.reshape(*weights.shape, *[1] * (mean.ndim - 2))
            centre = jnp.sum(share * mean, axis=0)
            mixed[name] = Moments(centre, jnp.sum(share * (variance + (mean - centre) ** 2), axis=0))
        return mixed

    def _arrays(self) -> dict[str, Array]:
        return {name: jnp.asarray(states) for name, states in self.states.items()}


def plan(structure: Structure, groups: Sequence[RowGroup], needs: Mapping[str, frozenset[str]]) -> Summation | None:
    """How the model's discrete sites are summed out; None if it has none.

    Parameters
    ----------
    structure, groups
        The model's sites and its rows.
    needs
        What each term depends on, with the labels of `posterion.frontends.numpyro.model`.

    Raises
    ------
    UnsupportedModelError
        If they cannot be; the message names a site.
    """
    discrete = structure.discrete
    if not discrete:
        return None
    labels = {f"state {name}" for name in discrete}
    dependents = tuple(n for n in (*structure.latents, *structure.terms) if needs[f"term {n}"] & labels)
    counts = [site.count for site in discrete.values()]
    if math.prod(counts) <= MAX_STATES and any(_per_row(discrete, dependents, group) for group in groups):
        numbers = np.indices(counts).reshape(len(counts), -1)
        return Summation(dict(zip(discrete, numbers, strict=True)), dependents, by_row=True)
    entries = [site.count for site in discrete.values() for _ in range(math.prod(site.shape))]
    if sum(map(math.log, entries)) <= math.log(MAX_STATES):
        numbers, states, start = np.indices(entries).reshape(len(entries), -1), {}, 0
        for name, site in discrete.items():
            size = math.prod(site.shape)
            states[name] = numbers[start : start + size].T.reshape(-1, *site.shape)
            start += size
        return Summation(states, dependents, by_row=False)
    if importlib.util.find_spec("funsor") is not None:
        return Summation(dict.fromkeys(discrete, np.zeros(1, int)), dependents, by_row=False, by_funsor=True)
    name, site = next(iter(discrete.items()))
    raise UnsupportedModelError(
        f"{name!r} is a discrete unknown ({site.distribution}) whose values rows share in a way that is too large "
        "to sum out here. Install funsor (pip install funsor), with which NumPyro sums it out, or sum it out in the "
        "model: numpyro.distributions.MixtureSameFamily, MixtureGeneral."
    )


def _per_row(discrete: Mapping[str, Discrete], dependents: Sequence[str], group: RowGroup) -> bool:
    """Whether every row of the group has states of its own, and nothing else depends on them."""
    rows = all(
        site.shape == (group.num_rows,) and {plate for plate, _ in site.plates} <= set(group.plates)
        for site in discrete.values()
    )
    return rows and bool(dependents) and set(dependents) <= {name for name, _ in group.terms}


def run_with_funsor(
    call: Call, data: Data, substitute: Callable[[dict], Array | None], setting: Setting, max_plates: int
) -> Array:
    """The joint log density of a model with its discrete sites summed out by funsor."""
    from numpyro.contrib.funsor import config_enumerate, enum, log_density

    def density(model: Callable[[], Any]) -> Array:
        return cast(Array, log_density(enum(config_enumerate(model), -max_plates - 1), (), {}, {})[0])

    return under_handlers(call, data, substitute, setting, density)
