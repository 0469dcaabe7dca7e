"""The target on the device, its starting points, and its compiled programs."""

import copy
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from posterion._typing import Batch, PyTree
from posterion.compilation import cache
from posterion.compilation.fingerprint import NotPlainError, digest_of, fingerprint, text_of
from posterion.data.batches import AbstractBatches, AllRows
from posterion.distributed import SOLO, Team
from posterion.engine.given import Given
from posterion.engine.placement import gathered
from posterion.engine.rows import RowStreams
from posterion.errors import NonFiniteError
from posterion.families import AbstractFamily
from posterion.families.host_noise import host_noise
from posterion.methods.starts import derivatives
from posterion.objectives.bounds import LogJoint, log_joint
from posterion.objectives.local_noise import RowNoise, local_noise
from posterion.target import AbstractNetworkTarget, AbstractTarget, Layout

_FINAL_DRAWS = 4096
_EVALUATION_VALUES = 1 << 25
"""Random numbers that one evaluation may hold at once, above 16 draws."""
_TRIES = 20
_QUICK_VALUES = 1 << 14
"""Numbers in the data up to which the few hundred derivatives of the start cost less than compiling them well."""


class Task:
    """The target on the device, starting points, and programs that are kept with the target.

    Parameters
    ----------
    given
        What is approximated, and its data, checked.
    seed
        The fit's seed; every purpose draws its own from it.
    team
        The devices that share the work.
    kl_weight
        Other than 1 for a tempered posterior.
    """

    def __init__(self, given: Given, seed: int, team: Team = SOLO, kl_weight: float = 1.0) -> None:
        target = self._target = given.target
        self.seed, self.team, self.kl_weight = seed, team, kl_weight
        self.values, self.rows_per_step, self.source = given.values, given.rows_per_step, given.source
        purposes = (int(s) for s in np.random.SeedSequence(seed).generate_state(6, np.uint32))
        self._initial_seed, self.start_seed, self.run_seed, self.compare_seed, self.final_seed, rows_seed = purposes
        self.rows = RowStreams(given, rows_seed, team)
        self.followers = given.plan.observed if given.plan else ()
        self.log_joint = _log_joint(target, self.followers, kl_weight)
        quick = sum(value.size for value in given.values.values()) < _QUICK_VALUES
        of_log_joint = lambda: derivatives(self.log_joint)
        self.derivatives = self.program(("derivatives",), of_log_joint, quick=quick, made_of=())

    @property
    def target(self) -> AbstractTarget:
        """What is approximated."""
        return self._target

    def of(self, target: AbstractTarget) -> "Task":
        """The same data and seeds for another target of the same inputs: one that a method has made of this one's."""
        other = copy.copy(self)
        other._target = target
        other.log_joint = _log_joint(target, self.followers, self.kl_weight)
        return other

    def row_noise(self) -> RowNoise:
        """How a network's weights are drawn row by row.

        Raises
        ------
        UnsupportedModelError
            If its rows are not independent, or none of its weights can be drawn so.
        """
        target = self._target
        assert isinstance(target, AbstractNetworkTarget)  # `options` refuses others  # noqa: S101
        kept, key = target.compiled, ("row noise", bool(jax.config.jax_enable_x64))
        if key not in kept:
            kept[key] = local_noise(target, self.sample.data)
        found = kept[key].log_joint(self.followers, self.kl_weight)
        of_rows = jax.jit(lambda z, rows, batch: found(z, rows, batch._replace(data=gathered(batch.data))), inline=True)
        return RowNoise(kept[key].places, of_rows, kept[key].note)

    @property
    def layout(self) -> Layout:
        """Names and shapes of the variables."""
        return self._target.layout

    @property
    def is_network(self) -> bool:
        """Whether the model multiplies activations by weights, as found when its precision was chosen."""
        return bool(self._target.compiled.get("is_network", False))

    @property
    def sample(self) -> Batch:
        """All rows, or if they are many, some of them that stand for all; on the device."""
        return self.rows.sample

    @property
    def stream(self) -> AbstractBatches:
        """The batches of the steps."""
        return self.rows.steps

    def program(
        self,
        name: tuple[Hashable, ...],
        make: Callable[[], Callable],
        *,
        quick: bool = False,
        made_of: tuple[Any, ...] | None = None,
    ) -> cache.Program:
        """The program of this name for these rows and this precision; made once and kept with the target.

        Parameters
        ----------
        name
            Of the program, in this process.
        make
            Makes the function.
        quick
            As for `cache.Program`.
        made_of
            The descriptions that decide, with the log joint and the layout, what a function of this name computes; None
            if more than that does. With them it is kept on disk for the next process.
        """
        how = (self.followers, self.rows_per_step, type(self.stream), self.team, self.kl_weight)
        key = ("engine", *how, bool(jax.config.jax_enable_x64), *name)
        kept = self._target.compiled
        if key not in kept:
            digest = None if made_of is None else partial(self._digest, (str(name[-1]), *made_of))
            kept[key] = cache.Program(make(), quick=quick, everywhere=self.team.everywhere, name=digest)
        return kept[key]

    def _digest(self, made_of: tuple[Any, ...]) -> str | None:
        """What a function of the log joint of all rows computes, by what it is made of; None if that is not known."""
        if not isinstance(self.stream, AllRows) or self.rows.by_batches:
            return None
        kept, key = self._target.compiled, ("log joint", self.kl_weight, bool(jax.config.jax_enable_x64))
        if key not in kept:
            zero = np.zeros(self.layout.size, jnp.result_type(float))
            kept[key] = fingerprint(self.log_joint, (zero, self.sample))
        if kept[key] is None:
            return None
        try:
            shapes = [variable.shape for variable in self.layout.variables]
            return digest_of(kept[key], text_of(shapes), text_of(made_of))
        except NotPlainError:
            return None

    def num_draws(self, wanted: int) -> int:
        """As many draws as wanted, or fewer (a power of two) where rows or variables are many."""
        return min(self.rows.num_draws(wanted), self._affordable(wanted))

    def comparison_draws(self, wanted: int) -> int:
        """The same for comparisons, in which a draw need not meet all rows."""
        return self._affordable(wanted) if self.rows.by_batches else self.num_draws(wanted)

    def _affordable(self, wanted: int) -> int:
        return int(min(wanted, 2 ** int(np.log2(max(16, _EVALUATION_VALUES / max(self.layout.size, 1))))))

    def initial_point(self) -> Float[np.ndarray, " dim"]:
        """The model's own."""
        return self.team.agree(np.asarray(self._target.initial_point(self._initial_seed), np.float64))

    def finite_start(
        self, initial: Float[np.ndarray, " dim"], seed: int, *, reach: float = 1.0
    ) -> Float[np.ndarray, " dim"]:
        """A random point near ``initial`` where the log joint and its gradient are finite; farther for a larger reach.

        Raises
        ------
        NonFiniteError
            If there is none within 20 tries; the message names the variable.
        """
        random, zero = np.random.default_rng(seed), np.zeros(initial.shape, jnp.result_type(float))
        spread = reach * self._jitter(initial)
        for attempt in range(_TRIES):
            z = initial + spread * random.standard_normal(initial.shape) / (1 + attempt // 4)
            value, gradient, _ = self.derivatives(z.astype(zero.dtype), zero, self.sample)
            if np.isfinite(value) and np.all(np.isfinite(gradient)):
                return z
        raise NonFiniteError(self._explain_non_finite(initial))

    def _jitter(self, initial: np.ndarray) -> np.ndarray:
        """Where a variable starts as a constant its entries must part, or hidden units would stay equal for ever.

        Others move by no more than they differ: weights of a thousand inputs start within 0.03 of zero.
        """
        spread = np.full_like(initial, 0.1)
        for at in self.layout.slices.values():
            if initial[at].size:
                scatter = float(np.std(initial[at]))
                spread[at] = min(0.1, scatter) if np.ptp(initial[at]) else 0.5
        return spread

    def _explain_non_finite(self, initial: np.ndarray) -> str:
        terms = self._target.named_terms(
            jnp.asarray(initial, jnp.result_type(float)), self._target.as_arrays(self.values)
        )
        bad = [f"{name} ({float(value)})" for name, value in terms.items() if not np.isfinite(value)]
        which = ", ".join(bad) if bad else "its gradient, though every term is finite"
        return (
            f"the log density is not finite at the model's initial point nor at {_TRIES} points around it. "
            f"Not finite there: {which}. Look for observations outside the support of their distribution, a scale of "
            "zero, or give the variable another initval."
        )

    def log_weights(
        self, evaluate: Callable[[PyTree, int, int], np.ndarray], family: AbstractFamily, size: int
    ) -> Float[np.ndarray, " draws"]:
        """``evaluate`` at several fresh sets of ``size`` draws: the same program again, not one for more draws."""
        wanted = self.num_draws(_FINAL_DRAWS) if self.source is None else _FINAL_DRAWS
        seeds = np.random.SeedSequence(self.final_seed).generate_state(max(1, wanted // size), np.uint32)
        noise = ((host_noise(family, self.layout, int(seed), size, quasi=False), int(seed)) for seed in seeds)
        return np.concatenate([np.asarray(evaluate(one, size, seed), np.float64) for one, seed in noise])


def _log_joint(target: AbstractTarget, followers: tuple[str, ...], kl_weight: float) -> LogJoint:
    """Of a batch whose rows may be spread over devices."""
    of_rows = log_joint(target, followers, kl_weight)
    # Inlined: it is traced once for all programs that contain it, and leaves no call in them.
    return jax.jit(lambda z, batch: of_rows(z, batch._replace(data=gathered(batch.data))), inline=True)
