"""One model in three languages: do the posteriors agree, and what do a step and opening the model cost.

    python benchmarks/frontends.py                     all rows; JSON into benchmarks/results, table into the docs
    python benchmarks/frontends.py --models schools    some models; the others keep what was measured before
    python benchmarks/frontends.py --quick             tests the script; its figures mean nothing and are not kept

What each row measures and how is said in docs/benchmarks/frontends.md.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import _five_models
import _rows
import jax
import numpy as np
from _rows import Check, Row, number

import posterion as po
from posterion.compilation.precision import is_network  # noqa: F401  (loads what a first fit would)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/frontends.json"
PAGE = ROOT / "docs/benchmarks/frontends.md"
HEADINGS = {"pymc": "PyMC", "numpyro": "NumPyro", "stan": "Stan", "hand": "by hand in JAX", "nuts": "NUTS"}
LANGUAGES = ("pymc", "numpyro", "stan", "hand")


def opened(case: _five_models.Case) -> dict[str, tuple]:
    """What `posterion.fit` is given for each language."""
    found = {"pymc": (case.pymc(), {}), "numpyro": (case.numpyro, {"model_kwargs": dict(case.data)})}
    found["stan"], found["hand"] = (case.stan_target(), {}), (case.by_hand(), {})
    return found


def measure(key: str, position: int, *, quick: bool) -> list[Row]:
    """The rows of one model."""
    case = _five_models.CASES[key]()
    models = opened(case)
    fit = lambda language, **options: po.fit(
        models[language][0], progress=False, precision="float64", **models[language][1], **options
    )
    draws, seeds = (500, 1) if quick else (4000, 3)
    fits = {language: [fit(language, random_seed=seed) for seed in range(seeds)] for language in LANGUAGES}
    reference = nuts(case, draws=200 if quick else 2000) if case.compared else None
    return [
        agreement(case, position, fits, reference, draws),
        steps(case, position, fit, quick=quick),
    ]


def agreement(case: _five_models.Case, position: int, fits: dict, reference: dict | None, draws: int) -> Row:
    """ELBOs, to the same constant; means across languages in posterior standard deviations; the same against NUTS."""
    constants = {language: case.halved * np.log(2) * (language in ("stan", "hand")) for language in fits}
    elbos = {language: max(fit.elbo for fit in found) + constants[language] for language, found in fits.items()}
    cells = {language: f"ELBO {elbo:.2f}" for language, elbo in elbos.items()}
    values: dict = {"elbo": {language: [fit.elbo for fit in found] for language, found in fits.items()}}
    values["constants"] = constants
    # Two fits stop within the tolerance of 0.1 nats of each other, and settle closer.
    apart = max(elbos.values()) - min(elbos.values())
    checks = [Check("ELBOs across languages, apart at most", apart, 0.2, unit=" nats")]
    if case.compared:
        best = {language: max(found, key=lambda fit: fit.elbo) for language, found in fits.items()}
        means = {language: flat_moments(fit, case.compared, draws) for language, fit in best.items()}
        centre, scale = means["pymc"]
        apart = max(float(np.max(np.abs(mean - centre) / scale)) for mean, _ in means.values())
        # Each mean of draws has an error of 1 / sqrt(draws) standard deviations; 4.5 of the largest of some hundred.
        allowed = 0.05 + 4.5 * np.sqrt(2 / draws)
        checks.append(Check("means across languages, sds apart at most", apart, round(allowed, 2)))
        values["apart"] = apart
        if reference is not None:
            mean, sd = reference["mean"], reference["sd"]
            error = np.abs(centre - mean) / sd
            trusted = bool(best["pymc"].diagnose().trustworthy)
            cells["nuts"] = f"{np.mean(error):.3f} sds off, sd ratio {np.median(scale / sd):.2f}"
            cells["nuts"] += "; verdict: trustworthy" if trusted else "; verdict: not to be trusted"
            values["against_nuts"] = {
                "mean_error": error.tolist(),
                "sd_ratio": (scale / sd).tolist(),
                "trusted": trusted,
            }
            if trusted:
                checks.append(Check("means against NUTS, sds off at most", float(error.max()), 0.3))
    return Row(f"{position}a", f"{case.name}: best of three fits", cells, tuple(checks), values)


def flat_moments(approx: po.Posterior, names: tuple[str, ...], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the named variables, one after the other."""
    posterior = approx.sample(draws)["posterior"]
    flat = np.concatenate([np.asarray(posterior[name])[0].reshape(draws, -1) for name in names], axis=1)
    return flat.mean(0), flat.std(0)


def nuts(case: _five_models.Case, draws: int) -> dict[str, np.ndarray]:
    """Moments by NumPyro's NUTS on the NumPyro model, four chains one after the other."""
    from numpyro.infer import MCMC, NUTS

    with jax.enable_x64(True):
        sampler = MCMC(
            NUTS(case.numpyro, target_accept_prob=0.95),
            num_warmup=1000,
            num_samples=draws,
            num_chains=4,
            chain_method="sequential",
            progress_bar=False,
        )
        sampler.run(jax.random.key(0), **{name: jax.numpy.asarray(value) for name, value in case.data.items()})
        found = sampler.get_samples()
        flat = np.concatenate([np.asarray(found[name]).reshape(4 * draws, -1) for name in case.compared], axis=1)
    return {"mean": flat.mean(0), "sd": flat.std(0)}


QUICK_STEP = 6e-6
"""Seconds below which a step is measured over a hundred thousand of them."""


def steps(case: _five_models.Case, position: int, fit, *, quick: bool) -> Row:
    """Time per step: a long fit less a short one, languages in turn, the smallest of the repeats."""
    short, long, repeats = (200, 1000, 2) if quick else (1000, 11_000, 7)

    def seconds(language: str, n: int, seed: int) -> float:
        begin = time.perf_counter()
        fit(language, n=n, random_seed=seed)
        return time.perf_counter() - begin

    for language in LANGUAGES:
        seconds(language, short, 0)
    if not quick and seconds("hand", long, 0) - seconds("hand", short, 0) < QUICK_STEP * (long - short):
        # What varies from fit to fit is milliseconds, as much as ten thousand steps of one microsecond; and a shared
        # processor's pace changes by a fifth within seconds, so that seven repeats are too few for their smallest.
        long, repeats = 101_000, 21
    found = {language: {"short": [], "long": []} for language in LANGUAGES}
    for repeat in range(repeats):
        for language in LANGUAGES:
            for which, n in (("short", short), ("long", long)):
                found[language][which].append(seconds(language, n, repeat))
    # The smallest of each: a busy machine only ever adds to either.
    micro = {
        language: 1e6 * (min(spans["long"]) - min(spans["short"])) / (long - short) for language, spans in found.items()
    }
    bounds = {"pymc": 1.1, "numpyro": 1.1, "stan": 4.0}
    return Row(
        f"{position}b",
        f"{case.name}: time per step (µs)",
        {language: number(value) for language, value in micro.items()},
        tuple(
            Check(f"{HEADINGS[language]} over hand-written", micro[language] / micro["hand"], bound, unit="x")
            for language, bound in bounds.items()
        ),
        {"steps": {"short": short, "long": long}, "seconds": found},
    )


def opening(position: int, *, quick: bool) -> list[Row]:
    """What a model costs before the first step: in a process that has opened others, and Stan's compiler."""
    import os
    import tempfile

    from posterion.frontends import target_of

    found: dict[str, list[float]] = {language: [] for language in ("pymc", "numpyro")}
    for make in _five_models.CASES.values():
        case = make()
        for language, model, options in (("pymc", case.pymc(), {}), ("numpyro", case.numpyro, dict(case.data))):
            begin = time.perf_counter()
            target_of(model, (), options)
            found[language].append(time.perf_counter() - begin)
    case = _five_models.CASES["schools"]()
    case.stan_target()
    begin = time.perf_counter()
    case.stan_target()
    cached, first = time.perf_counter() - begin, float("nan")
    if not quick:
        before = os.environ.get("POSTERION_CACHE")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["POSTERION_CACHE"] = folder
            begin = time.perf_counter()
            case.stan_target()
            first = time.perf_counter() - begin
        if before is None:
            del os.environ["POSTERION_CACHE"]
        else:
            os.environ["POSTERION_CACHE"] = before
    largest = {language: max(values) for language, values in found.items()}
    cells = {language: f"{statistics.median(v):.2f}, at most {max(v):.2f}" for language, v in found.items()}
    cells["stan"] = f"{first:.1f} first, {cached:.3f} compiled before"
    checks = (
        Check("PyMC", largest["pymc"], 0.3, unit=" s"),
        Check("NumPyro", largest["numpyro"], 0.3, unit=" s"),
        Check("Stan, first", first, 35, unit=" s"),
        Check("Stan, compiled before", cached, 0.2, unit=" s"),
    )
    return [
        Row(f"{position}", "opening a model, before anything of JAX compiles (s)", cells, checks, {"seconds": found})
    ]


def main() -> int:
    options = _options()
    circumstances = _rows.circumstances(quick=options.quick)
    records = [] if options.quick else _rows.read(RESULTS)
    for position, key in enumerate([*_five_models.CASES, "opening"], start=1):
        if key not in options.models:
            continue
        begin = time.perf_counter()
        rows = (
            opening(position, quick=options.quick) if key == "opening" else measure(key, position, quick=options.quick)
        )
        records = _rows.merge(records, [row.as_record(circumstances) for row in rows])
        if not options.quick:
            _rows.write(RESULTS, records)
            _rows.update_page(PAGE, records, HEADINGS)
        print(f"{key} took {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    print(_rows.table(records, HEADINGS), _rows.provenance(records), sep="\n\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/frontends.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*_five_models.CASES, "opening"]
    parser.add_argument("--models", nargs="+", choices=known, default=known, help="some of them")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the script")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
