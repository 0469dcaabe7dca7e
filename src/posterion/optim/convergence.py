r"""When to stop: rounds of growing length, compared on fresh draws.

A round is one cosine of step sizes from the peak to zero; at its end the iterate has settled, which an iterate under a
constant rate never does. Rounds of 1000, 2000, 4000, ... steps start from the best state so far, and after each the
states before and after are compared on the same quasi-random draws, a fresh set every time. The fit has converged when
a whole round gains less than ``tolerance`` nats, or less than twice the standard error of that gain. The first
round is a tournament: every starting point runs it and the best goes on.

Why not something simpler (all measured, or reported by the users of other tools): parameters never settle at a constant
rate; a plateau of the noisy objective stops too early; the Pareto k-hat does not tell a converged mean-field fit from
one that is not; and one fixed evaluation set is fitted by selecting on it, which biased the reported ELBO by 0.3 nats.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from posterion._typing import PyTree
from posterion.errors import OptionError
from posterion.optim.algorithm import Algorithm
from posterion.optim.averaging import at_average, stationary
from posterion.optim.comparing import QUICK_DRAWS, Comparer, Comparison, paired
from posterion.optim.journey import Journey, Stage, Status
from posterion.optim.loop import Loop


@dataclass(frozen=True)
class Averaging:
    """Stop by averages of iterates at falling constant step sizes; slower than `Rounds` and nearer to the optimum.

    Rounds of constant step size go on until the parameters only wander, which R-hat of two windows tells; their average
    is compared with the one at twice the step size, until the gain falls below ``tolerance``.

    Parameters
    ----------
    tolerance
        Gain in nats of an average over the one before, below which the fit has converged.
    window
        Steps whose mean is held against that of the steps before; doubled whenever the parameters still drift.
    first
        Steps of the round that chooses among starting points.
    max_steps
        Stop anyway after this many steps on the best path.
    num_draws
        Quasi-random draws that two states are compared on (a power of two).

    Raises
    ------
    OptionError
        For a tolerance that is not positive or counts below one.

    References
    ----------
    Welandawe, Andersen, Vehtari, Huggins (2022), Robust, Automated, and Accurate Black-box Variational Inference,
    arXiv:2203.15945; without its model of the remaining divergence.
    """

    tolerance: float = 0.1
    window: int = 500
    first: int = 1000
    max_steps: int = 511_000
    num_draws: int = 1024

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise OptionError(f"tolerance must be a positive number of nats, not {self.tolerance!r}")
        if min(self.window, self.first, self.max_steps, self.num_draws) < 1:
            raise OptionError("window, first, max_steps and num_draws must be whole numbers from 1 on")


@dataclass(frozen=True)
class Rounds:
    """The default stop: growing rounds until one gains less than ``tolerance``.

    Parameters
    ----------
    tolerance
        Gain in nats below which a round counts as no gain.
    first
        Steps of the first round; each later one is twice as long.
    max_steps
        Stop anyway after this many steps on the best path.
    num_draws
        Quasi-random draws that two states are compared on (a power of two).

    Raises
    ------
    OptionError
        For a tolerance that is not positive or counts below one.
    """

    tolerance: float = 0.1
    first: int = 1000
    max_steps: int = 511_000
    num_draws: int = 1024

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise OptionError(f"tolerance must be a positive number of nats, not {self.tolerance!r}")
        if min(self.first, self.max_steps, self.num_draws) < 1:
            raise OptionError("first, max_steps and num_draws must be whole numbers from 1 on")


StopRule: TypeAlias = Rounds | Averaging
"""Says when a fit has converged."""


@dataclass
class Outcome:
    """What the rounds led to.

    Parameters
    ----------
    state
        The best state found.
    status
        How it ended.
    sentence
        The same in words, for the user.
    losses
        Negative ELBO estimates along the path that led to ``state``, one per step.
    comparisons
        One per round.
    journey
        Where the fit has got to, to go on from.
    """

    state: PyTree
    status: Status
    sentence: str
    losses: np.ndarray
    comparisons: list[Comparison]
    journey: Journey


_NOISE = 2.0
"""Standard errors below which a gain is not told from none; without it one seed in ten takes four times as long."""
_WANDERING, _SHARE = 1.1, 0.95
"""R-hat below which a parameter only wanders, and the share of the parameters that have to."""
_STARTING_SHARE = 0.3
"""Of the rounds' largest step size, where averages begin: at 0.1 itself they lie several nats from the optimum."""
_LONGEST_WINDOW = 8
"""Times the first window; parameters that drift even so do it more slowly than the step size should wait for."""
_SETTLING_DIVISOR = 10
"""By which the largest step size is divided to settle."""
_NOTES = {Stage.TRYING: "Trying starting points", Stage.SETTLING: "Settling"}
_FROM_OUTSIDE = {
    "interrupted": Status.INTERRUPTED,
    "callback": Status.CALLBACK,
    "time": Status.MAX_SECONDS,
}
"""How a round that was not left to end by itself ended, and what that makes of the fit."""
_ENDS_NON_FINITE = "non_finite"

Keep = Callable[[Callable[[], Journey]], None]
"""Offered a way to make the journey as it is now, between chunks; takes it up when a checkpoint is due."""


def set_out(starts: Sequence[PyTree], rule: StopRule, peak: float) -> Journey:
    """A journey by rounds that begins with a tournament of the starts."""
    trails = ((),) * len(starts)
    return Journey(
        Stage.TRYING, starts[0], starts[0], rule.first, peak, rule.max_steps, starts=tuple(starts), trails=trails
    )


def set_out_fixed(start: PyTree, num_steps: int, peak: float, compared: int = 0) -> Journey:
    """A journey of exactly ``num_steps`` steps along one cosine: nothing is compared but start and end."""
    return Journey(Stage.FIXED, start, start, num_steps, peak, num_steps, compared=compared)


def extend(journey: Journey, num_steps: int | None, rule: StopRule, peak: float) -> Journey:
    """More of a journey: ``num_steps`` more steps from where it is, or on by the rule.

    Without a number, one that is not done goes on as if it had never been interrupted; one that is done goes on in
    rounds, the first of them twice as long as the last was.
    """
    if num_steps is not None:
        path = () if journey.stage is Stage.TRYING else journey.path  # where it is was reached from one of its starts
        path = path if journey.stage is Stage.DONE else (*path, journey.present)
        cleared = {"path": path, "starts": (), "trails": (), "ended": (), "status": None}
        return journey.next_round(Stage.FIXED, journey.state, num_steps, peak, **cleared)
    if journey.stage is not Stage.DONE:
        return journey
    length = max(rule.first, 2 * journey.length)
    limit = journey.on_path + max(rule.max_steps, length)
    if isinstance(rule, Averaging):
        again = {"limit": limit, "status": None, "windows": 0}
        return journey.next_round(Stage.AVERAGING, journey.state, max(rule.window, journey.length), peak, **again)
    return journey.next_round(Stage.FITTING, journey.state, length, peak, limit=limit, status=None)


def travel(
    loop: Loop,
    compare: Comparer,
    seed: int,
    rule: StopRule,
    journey: Journey,
    keep: Keep | None = None,
    check: Callable[[PyTree], None] | None = None,
) -> Outcome:
    """Go on with a journey until it is done, or interrupted.

    Parameters
    ----------
    loop, compare
        What takes steps and what compares states.
    seed
        Of the rounds' noise.
    rule
        The stop rule.
    journey
        Where the fit has got to.
    keep
        Offered the journey between chunks.
    check
        Looks at the state after every whole round; raises where no further step can help.
    """
    loop.go_on_from(journey.losses, journey.skipped)
    compare.used = journey.compared
    while journey.stage is not Stage.DONE:
        began = journey

        def now(state: PyTree, done: int, began: Journey = began) -> Journey:
            counts = {"steps": loop.steps, "skipped": loop.skipped, "losses": loop.losses}
            return dataclasses.replace(began, state=state, done=done, **counts)

        def look(state: PyTree, done: int, now: Callable[[PyTree, int], Journey] = now) -> None:
            if keep is not None:
                keep(lambda: now(state, done))

        round_ = loop.run(
            journey.state,
            seed_of_round(seed, journey.round),
            journey.length,
            journey.peak,
            first=journey.done,
            total=journey.length if journey.stage is Stage.FIXED else None,
            note=_NOTES.get(journey.stage, "Fitting"),
            constant=journey.stage is Stage.AVERAGING,
            look=look,
        )
        journey = now(round_.state, began.done + round_.steps)
        if check is not None and not round_.ended:
            check(journey.state)
        try:
            if round_.ended in _FROM_OUTSIDE:
                return _stopped(journey, round_.ended, compare, loop.said)
            if journey.stage is Stage.AVERAGING:
                journey = _after_averaging(journey, round_.ended, compare, rule, loop.algorithm)
            else:
                journey = _NEXT[journey.stage](journey, round_.ended, compare, rule)
        except KeyboardInterrupt:  # while comparing: the state before the round is known to be good
            return _outcome(journey, journey.before, Status.INTERRUPTED, _interrupted(journey), journey.path_losses())
        journey = dataclasses.replace(journey, compared=compare.used)
    assert journey.status is not None  # it is done  # noqa: S101
    return _outcome(journey, journey.state, journey.status, journey.sentence, journey.path_losses())


def run_rounds(
    loop: Loop, starts: Sequence[PyTree], compare: Comparer, seed: int, rule: StopRule, peak: float
) -> Outcome:
    """Tournament of the starts, then growing rounds from the best state until one gains too little."""
    return travel(loop, compare, seed, rule, set_out(starts, rule, peak))


def run_fixed(loop: Loop, state: PyTree, compare: Comparer, seed: int, num_steps: int, peak: float) -> Outcome:
    """Exactly ``num_steps`` steps along one cosine."""
    return travel(loop, compare, seed, Rounds(), set_out_fixed(state, num_steps, peak, compare.used))


# ---- what follows a round
def _after_trying(journey: Journey, ended: str, compare: Comparer, rule: StopRule) -> Journey:
    """The next starting point; after the last of them the better half of them again, twice as long; or the best."""
    k, starts, trails = len(journey.ended), journey.starts, journey.trails
    starts = (*starts[:k], journey.state, *starts[k + 1 :])
    trails = (*trails[:k], (*trails[k], journey.present), *trails[k + 1 :])
    journey = dataclasses.replace(journey, starts=starts, trails=trails, ended=(*journey.ended, ended))
    if k + 1 < len(starts):
        return journey.next_round(Stage.TRYING, starts[k + 1], journey.length, journey.peak)
    order = compare.ranking(starts) if len(starts) > 1 else [0]
    best = order[0]
    if all(end == _ENDS_NON_FINITE for end in journey.ended):
        return journey.finish(starts[best], Status.NON_FINITE, _non_finite(journey), path=trails[best])
    if len(starts) > 3:  # two or three: the better of them, after one round
        left = sorted(order[: len(starts) // 2])
        starts, trails = tuple(starts[i] for i in left), tuple(trails[i] for i in left)
        again = {"starts": starts, "trails": trails, "ended": ()}
        return journey.next_round(Stage.TRYING, starts[0], 2 * journey.length, journey.peak, **again)
    journey = dataclasses.replace(journey, path=trails[best])
    tried = {"starts": (), "trails": (), "ended": ()}
    if isinstance(rule, Averaging):
        peak = journey.peak * _STARTING_SHARE
        return journey.next_round(Stage.AVERAGING, starts[best], rule.window, peak, **tried)
    return _next_fitting(journey, starts[best], **tried)


def _after_fitting(journey: Journey, ended: str, compare: Comparer, rule: StopRule) -> Journey:
    """Keep the better of the states before and after the round; another round, or settle."""
    journey, gain, error, new = _compared(journey, compare, rule)
    best = journey.state if gain > 0 else journey.before
    if ended:
        return journey.finish(best, Status.NON_FINITE, _non_finite(journey))
    if not np.isfinite(new):
        sentence = (
            f"diverged: after a round of {journey.length:,} steps the ELBO was not finite; the state before it is kept"
        )
        return journey.finish(best, Status.DIVERGED, sentence)
    if gain >= max(rule.tolerance, _NOISE * error):
        return _next_fitting(journey, best)
    gained = f"gained {gain:.3f} nats" if gain > 0 else "gained nothing"
    limit = f"the tolerance of {rule.tolerance:g}"
    if gain >= rule.tolerance:
        limit = f"{_NOISE:g} times its standard error ({error:.3f})"
    sentence = f"converged: the last round of {journey.length:,} steps {gained}, less than {limit}"
    peak = journey.peak / _SETTLING_DIVISOR
    return journey.next_round(Stage.SETTLING, best, journey.length, peak, status=Status.CONVERGED, sentence=sentence)


def _after_averaging(journey: Journey, ended: str, compare: Comparer, rule: StopRule, algorithm: Algorithm) -> Journey:
    """Go on while parameters drift; else hold their average against the last one, and halve the step size."""
    assert isinstance(rule, Averaging)  # the stage is its own  # noqa: S101
    path = (*journey.path, journey.present)
    journey = dataclasses.replace(journey, path=path)
    if ended:
        return journey.finish(journey.before, Status.NON_FINITE, _non_finite(journey))
    state, best, peak, on_path = journey.state, journey.before, journey.peak, journey.on_path
    limit = f"stopped at the limit of {journey.limit:,} steps before converging"
    seen = journey.windows + 1
    drifts = seen >= 2 and not stationary(state, _WANDERING, _SHARE)
    if seen < 2 or (drifts and journey.length < _LONGEST_WINDOW * rule.window):
        length = journey.length if seen < 2 else 2 * journey.length
        seen = 1 if seen < 2 else 0  # windows of another length say nothing of each other
        if on_path + length > journey.limit:
            return journey.finish(best, Status.MAX_STEPS, limit)
        return journey.next_round(Stage.AVERAGING, state, length, peak, before=best, windows=seen)
    average = at_average(algorithm, state)
    old, new = compare([best, average])
    gain, error = paired(old, new)
    first_average = not journey.comparisons
    comparison = Comparison(on_path, float(new.mean()), gain, error)
    journey = dataclasses.replace(journey, comparisons=(*journey.comparisons, comparison))
    best = average if gain > 0 else best
    if not first_average and -rule.tolerance < gain < max(rule.tolerance, _NOISE * error):
        sentence = (
            f"converged: halving the step size to {peak:.2g} gained {max(gain, 0):.3f} nats in the average of "
            f"{2 * journey.length:,} steps, less than {max(rule.tolerance, _NOISE * error):.2g}"
        )
        return journey.finish(best, Status.CONVERGED, sentence)
    if on_path + 2 * journey.length > journey.limit:
        return journey.finish(best, Status.MAX_STEPS, limit)
    return journey.next_round(Stage.AVERAGING, average, journey.length, peak / 2, before=best, windows=0)


def _after_settling(journey: Journey, ended: str, compare: Comparer, rule: StopRule) -> Journey:
    """Keep a round at a tenth of the step size if it is better.

    A round at full size ends within the noise of its last large steps; on the tutorial's network settling takes the
    spread over seeds from 0.22 nats to 0.12 and the mean 0.08 nats up.
    """
    peak = journey.peak * _SETTLING_DIVISOR
    if ended:  # converged all the same
        return journey.finish(journey.before, Status.CONVERGED, journey.sentence, peak=peak)
    old, new = compare([journey.before, journey.state])
    gain, error = paired(old, new)
    path = (*journey.path, journey.present)
    comparison = Comparison(sum(last - first for first, last in path), float(new.mean()), gain, error)
    best = journey.state if gain > 0 else journey.before
    comparisons = (*journey.comparisons, comparison)
    return journey.finish(best, Status.CONVERGED, journey.sentence, path=path, comparisons=comparisons, peak=peak)


def _after_fixed(journey: Journey, ended: str, compare: Comparer, rule: StopRule) -> Journey:
    """Notice a fit that ran away."""
    path = (*journey.path, journey.present)
    steps = f"{journey.length:,}"
    if ended:
        return journey.finish(journey.state, Status.NON_FINITE, _non_finite(journey), path=path)
    old, new = compare([journey.before, journey.state], QUICK_DRAWS)
    gain, error = paired(old, new)
    if np.isfinite(new.mean()) and gain >= -4 * error:
        sentence = f"took the {steps} steps that were asked for"
        return journey.finish(journey.state, Status.FIXED_STEPS, sentence, path=path)
    sentence = f"diverged: after {steps} steps the ELBO is lower than at the start"
    best = journey.before if np.isfinite(old.mean()) else journey.state
    return journey.finish(best, Status.DIVERGED, sentence, path=path)


_NEXT = {
    Stage.TRYING: _after_trying,
    Stage.FITTING: _after_fitting,
    Stage.SETTLING: _after_settling,
    Stage.FIXED: _after_fixed,
}


def _compared(journey: Journey, compare: Comparer, rule: StopRule) -> tuple[Journey, float, float, float]:
    """The round counted and compared: gain, its standard error, and the ELBO after the round."""
    pair = [journey.before, journey.state]
    old, new = compare(pair)
    gain, error = paired(old, new)
    if rule.tolerance <= gain < _NOISE * error:  # not to be told from none yet: look at four times as many draws
        more = [compare(pair) for _ in range(3)]
        old, new = np.concatenate([np.stack([old, new]), *more], axis=1)
        gain, error = paired(old, new)
    path = (*journey.path, journey.present)
    comparison = Comparison(sum(last - first for first, last in path), float(new.mean()), gain, error)
    journey = dataclasses.replace(journey, path=path, comparisons=(*journey.comparisons, comparison))
    return journey, gain, error, float(new.mean())


def _next_fitting(journey: Journey, best: PyTree, **changes: Any) -> Journey:
    length = 2 * journey.length
    if journey.on_path + length <= journey.limit:
        return journey.next_round(Stage.FITTING, best, length, journey.peak, **changes)
    last = f"; the last round still gained {journey.comparisons[-1].gain:.2g} nats" if journey.comparisons else ""
    sentence = f"stopped at the limit of {journey.limit:,} steps before converging{last}"
    return journey.finish(best, Status.MAX_STEPS, sentence, **changes)


def _stopped(journey: Journey, ended: str, compare: Comparer, said: str) -> Outcome:
    """What exists when a round is stopped from outside; the journey goes on from the middle of the round."""
    status = _FROM_OUTSIDE[ended]
    sentence = _interrupted(journey)
    if status is Status.CALLBACK:
        sentence = f"stopped by a callback after {journey.steps:,} steps" + (f": {said}" if said else "")
    if status is Status.MAX_SECONDS:
        sentence = f"stopped at the limit of time after {journey.steps:,} steps, before converging"
    if journey.stage is Stage.TRYING and (journey.ended or journey.trails[0]):
        first, trail = journey.starts[0], journey.trails[0]
        return _outcome(journey, first, status, sentence, dataclasses.replace(journey, path=trail).path_losses())
    if journey.stage is Stage.SETTLING:
        return _outcome(journey, journey.before, Status.CONVERGED, journey.sentence, journey.path_losses())
    if journey.stage is Stage.FITTING:
        counted, gain, _, _ = _compared(journey, compare, Rounds(tolerance=np.inf))
        state = journey.state if gain > 0 else journey.before
        return _outcome(journey, state, status, sentence, counted.path_losses(), counted.comparisons)
    return _outcome(journey, journey.state, status, sentence, journey.path_losses(present=True))


def _outcome(
    journey: Journey,
    state: PyTree,
    status: Status,
    sentence: str,
    losses: np.ndarray,
    comparisons: Sequence[Comparison] | None = None,
) -> Outcome:
    found = journey.comparisons if comparisons is None else comparisons
    return Outcome(state, status, sentence, losses, list(found), journey)


def seed_of_round(seed: int, number: int) -> int:
    """Of the noise of the round of this number."""
    return int(np.random.SeedSequence(seed).generate_state(number + 1, np.uint32)[number])


def _interrupted(journey: Journey) -> str:
    return f"interrupted after {journey.steps:,} steps; what was reached is kept"


def _non_finite(journey: Journey) -> str:
    skipped, steps = f"{journey.skipped:,}", f"{journey.steps:,}"
    return f"the objective or its gradient was not finite in {skipped} of {steps} steps"
