"""Rows 1, 2, 3 and 5: speed and quality of fits in a warm process."""

import itertools

import _measure as measure
import _network as network
from _rows import Check, Row, number, times_faster
from _session import Session

REACHING_STEPS = (100, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000, 30_000)
BEST_KNOWN = 113.91
STAN = "Stan `vb`, quoted, not run: stops at 115.7 and 119.2 after 0.9 to 1.4 s, and 28 s of compiling"


def step(session: Session) -> list[Row]:
    """Row 1: time per step, warm."""
    found = session.full_batches
    micro = {name: 1e6 * session.seconds_per_step(name) for name in found}
    before = {name: measure.middle([run["before"] for run in runs]) for name, runs in found.items()}
    pymc, numpyro, ours = micro["pymc"], micro["numpyro"], micro["posterion"]
    return [
        Row(
            "1a",
            f"time per step, {session.size.steps:,} steps on all 284 rows, warm (µs)",
            {name: number(value) for name, value in micro.items()},
            (
                times_faster("PyMC", pymc / ours, 20),
                times_faster("NumPyro", numpyro / ours, 6),
                Check("µs where PyMC needs 200:", ours * 200 / pymc, 10),
            ),
            {"seconds": found},
        ),
        Row(
            "1b",
            "apart from it: building and compiling before the first step, warm process, caches filled (s)",
            {name: number(value) for name, value in before.items()},
        ),
    ]


def reach(session: Session) -> list[Row]:
    """Row 2: time until a fit is as good as PyMC's own after 30,000 steps."""
    goal, goal_error = session.judge(session.pymc_approximation)
    steps, reached = _posterion_steps(session, goal)
    session.fit(n=steps, random_seed=0)  # warm
    seeds = itertools.cycle(range(session.size.reach_seeds))
    times = measure.seconds(lambda: session.fit(n=steps, random_seed=next(seeds)), 4 * session.size.repeats)
    ours = measure.middle(times)
    pymc = session.seconds_per_step("pymc") * session.size.steps
    numpyro_steps, numpyro_reached = _numpyro_steps(session, goal)
    numpyro = session.seconds_per_step("numpyro") * numpyro_steps if numpyro_steps else float("nan")
    numpyro_cell = f"{numpyro:.2f} s ({numpyro_steps:,} steps)" if numpyro_steps else "not reached"
    return [
        Row(
            "2",
            f"warm, until a negative ELBO of {goal:.1f}, PyMC's own after {session.size.steps:,} steps; "
            "peers' steps alone, ours the whole call",
            {
                "pymc": f"{pymc:.2f} s ({session.size.steps:,} steps)",
                "numpyro": numpyro_cell,
                "posterion": f"{1e3 * ours:.0f} ms ({steps:,} steps)",
            },
            (times_faster("PyMC", pymc / ours, 300),),
            {
                "goal": goal,
                "goal_se": goal_error,
                "posterion_negative_elbos": reached,
                "numpyro_negative_elbos": numpyro_reached,
                "seconds": {"pymc": pymc, "numpyro": numpyro, "posterion": times},
            },
        )
    ]


def _posterion_steps(session: Session, goal: float) -> tuple[int, dict]:
    """The smallest number of steps with which every seed reaches the goal, and what each number reached."""
    reached: dict[int, list[float]] = {}
    for n in REACHING_STEPS:
        fits = [session.fit(n=n, random_seed=seed) for seed in range(session.size.reach_seeds)]
        reached[n] = [session.judge(session.posterion_mean_field(approx))[0] for approx in fits]
        if max(reached[n]) <= goal:
            return n, reached
    raise RuntimeError(f"no number of steps reaches {goal:.2f} with every seed: {reached}")


def _numpyro_steps(session: Session, goal: float) -> tuple[int | None, dict]:
    reached: dict[int, list[float]] = {}
    for n in [n for n in REACHING_STEPS if n >= 1000]:
        seeds = range(min(3, session.size.reach_seeds))
        reached[n] = [session.judge(session.numpyro_run(n, seed))[0] for seed in seeds]
        if max(reached[n]) <= goal:
            return n, reached
    return None, reached


def stop(session: Session) -> list[Row]:
    """Row 3: how good a fit is that stops by itself."""
    session.fit(random_seed=0)  # warm
    values, steps, times, errors, statuses = [], [], [], [], []
    for seed in range(session.size.seeds):
        approx, seconds = measure.timed(lambda seed=seed: session.fit(random_seed=seed))
        value, error = session.judge(session.posterion_mean_field(approx))
        values.append(value)
        errors.append(error)
        steps.append(approx.record.steps)
        statuses.append(approx.result)
        times.append(seconds)
    pymc, _ = session.judge(session.pymc_approximation)
    numpyro, _ = session.judge(session.numpyro_run(session.size.steps))
    return [
        Row(
            "3",
            f"negative ELBO on {session.size.evaluation_draws:,} fresh draws; ours where it stops by itself, "
            f"{session.size.seeds} seeds (best known {BEST_KNOWN})",
            {
                "pymc": f"{pymc:.2f} after {session.size.steps:,} steps",
                "numpyro": f"{numpyro:.2f} after {session.size.steps:,} steps",
                "posterion": f"{min(values):.2f} / {measure.middle(values):.2f} / {max(values):.2f} "
                f"(min / median / max) after {min(steps):,} to {max(steps):,} steps, {measure.middle(times):.2f} s",
            },
            (Check("largest", max(values), 114.3, decimals=2),),
            {
                "negative_elbo": values,
                "standard_error": errors,
                "steps": steps,
                "seconds": times,
                "status": statuses,
                "pymc_negative_elbo": pymc,
                "numpyro_negative_elbo": numpyro,
                "stan": STAN,
            },
        ),
        Row("3b", STAN, {}),
    ]


def minibatch(session: Session) -> list[Row]:
    """Row 5: mini-batch steps, warm."""
    import posterion as po

    n, size = session.size.minibatch_steps, session.size
    model = network.pymc_minibatch_model(session.data)
    ours = lambda: measure.timed(lambda: po.fit(model, n=n, progress=False, random_seed=0))[1]
    ours()
    session.pymc_fit(model, size.short)
    session.numpyro_run(size.short, rows_per_step=50)
    found = measure.interleaved(
        {
            "pymc": lambda: n * session.pymc_marginal(model)["step"],
            "numpyro": lambda: n * session.numpyro_marginal(rows_per_step=50)["step"],
            "posterion": ours,
        },
        size.peer_repeats,
    )
    found["posterion"] += [ours() for _ in range(size.repeats)]
    middles = {name: measure.middle(values) for name, values in found.items()}
    return [
        Row(
            "5",
            f"{n:,} mini-batch steps of 50 rows, warm (s)",
            {name: number(value) for name, value in middles.items()},
            (
                Check("", middles["posterion"], 0.6, unit=" s"),
                Check("s where PyMC needs 7.8:", middles["posterion"] * 7.8 / middles["pymc"], 0.6),
            ),
            {"seconds": found},
        )
    ]
