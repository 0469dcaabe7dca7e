"""Fresh draws of an approximation together with their importance ratios, log p - log q."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from posterion._typing import Array, Data, PyTree
from posterion.compilation.cache import Program
from posterion.compilation.minor_axis import batch_minor
from posterion.families import AbstractFamily
from posterion.target import AbstractRowTarget, AbstractTarget

_CHUNK = 512
"""Draws per call: one program serves any number."""
_ROWS_TOUCHED = 2**27
"""Rows times draws that a verdict may cost."""


class WeightedDraws(NamedTuple):
    """Draws of an approximation q.

    Parameters
    ----------
    z
        In unconstrained space.
    log_weights
        log p(z) - log q(z), in nats; p is not normalised.
    scores
        Gradients of log p, if they were asked for.
    """

    z: Float[np.ndarray, "draws dim"]
    log_weights: Float[np.ndarray, " draws"]
    scores: Float[np.ndarray, "draws dim"] | None = None


def affordable_draws(target: AbstractTarget, wanted: int) -> int:
    """As many draws as wanted, or fewer where rows are many."""
    rows = max(target.num_rows.values(), default=1) if isinstance(target, AbstractRowTarget) else 1
    return int(max(_CHUNK, min(wanted, _ROWS_TOUCHED // max(rows, 1))))


def weighted_draws(
    target: AbstractTarget,
    family: AbstractFamily,
    params: PyTree,
    data: Data,
    *,
    draws: int,
    seed: int,
    x64: bool,
    with_scores: bool = False,
) -> WeightedDraws:
    """Independent draws of ``z`` from the approximation, and log p(z) - log q(z) for all rows.

    Parameters
    ----------
    target
        Whose log density is p.
    family, params
        The approximation q, which must have a density.
    data
        By slot.
    draws, seed
        How many, and what they are made from.
    x64
        Whether to compute in double precision.
    with_scores
        Whether to differentiate log p as well.
    """

    def chunk(params: PyTree, words: Array, data: Data) -> tuple[Array, Array, Array]:
        density = batch_minor(target.log_density)
        noise = family.noise(target.layout, jax.random.wrap_key_data(words), _CHUNK)

        def one(noise: PyTree) -> tuple[Array, Array, Array]:
            z, log_q = family.transport(target.layout, params, noise)
            if with_scores:
                value, score = jax.value_and_grad(density)(z, data)
            else:
                value, score = density(z, data), z[:0]
            return z, value - log_q, score

        return jax.lax.map(one, noise)

    with jax.enable_x64(x64):
        program = target.compiled.setdefault(("weighted draws", family, with_scores), Program(chunk))
        arrays = target.as_arrays(data)
        words = np.random.SeedSequence(seed).generate_state(2 * -(-draws // _CHUNK), np.uint32).reshape(-1, 2)
        parts = [jax.device_get(program(params, each, arrays)) for each in words]
    z, log_weights, scores = (np.concatenate([part[k] for part in parts])[:draws] for k in range(3))
    log_weights = np.asarray(log_weights, np.float64)
    log_weights = np.where(np.isnan(log_weights), -np.inf, log_weights)  # where p is not a number it has no weight
    return WeightedDraws(z, log_weights, scores if with_scores else None)
