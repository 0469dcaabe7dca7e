"""What any posterior can tell of itself, as sections of a page and as a page of its own."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path

import posterion as po
from posterion.report.page import Page, Picture, Section, Table

_PACKAGES = ("posterion", "jax", "numpy", "pymc", "pytensor")


def fit_section(posterior: "po.Posterior", pictures: Sequence[Picture] = (), *, heading: str = "The fit") -> Section:
    """How a posterior was fitted: method, stop, ELBO, cost, and the rounds that decided the stop."""
    record = posterior.record
    rows = [
        ("method", record.method),
        ("stop", record.sentence),
        ("ELBO", f"{posterior.elbo:,.2f} ± {posterior.elbo_se:.2f} nats (fresh draws; ± one standard error)"),
        ("parameters", f"{posterior.layout.size:,} in {', '.join(v.name for v in posterior.layout.variables)}"),
        (record.counted, f"{record.steps:,}" + (f", {record.skipped_steps:,} skipped" if record.skipped_steps else "")),
        ("time", f"{record.seconds_compiling:.2f} s compiling, {record.seconds_running:.2f} s running"),
        ("precision", "float64" if record.x64 else "float32"),
        ("random seed", str(record.random_seed)),
    ]
    rows += [("note", note) for note in record.notes]
    if record.rows_per_step is not None:
        rows.insert(4, ("rows per step", f"{record.rows_per_step:,} of {record.num_rows:,}"))
    tables = [Table(("", ""), rows)]
    if record.comparisons:
        rounds = [
            (f"{c.step:,}", f"{c.elbo:,.2f}", f"{c.gain:+.3f}", f"{c.standard_error:.3f}") for c in record.comparisons
        ]
        caption = (
            "After each round, on fresh draws: the ELBO, what the round gained, and the standard error of the gain"
        )
        tables.append(Table(("steps", "ELBO (nats)", "gain (nats)", "± (nats)"), rounds, caption))
    return Section(heading, tables=tables, pictures=pictures)


def verdict_section(posterior: "po.Posterior", *, heading: str = "The verdict") -> Section:
    """How far a posterior can be trusted, and what to do about it."""
    verdict = posterior.diagnose()
    word = "Trustworthy: nothing speaks against it." if verdict.trustworthy else "Not to be trusted as it is."
    points = [*map(_sentence, verdict.reasons), *(f"What to do: {_sentence(advice)}" for advice in verdict.advice)]
    points.append(f"Pareto k-hat of the importance ratios: {verdict.khat:.2f}.")
    return Section(heading, [word], points)


def _sentence(text: str) -> str:
    start = text if text.startswith("k-hat") else text[:1].upper() + text[1:]
    return start + ("" if text.endswith(".") else ".")


def footer() -> str:
    """The date and the versions something was made with."""
    versions = ", ".join(f"{name} {version}" for name, version in versions_of(_PACKAGES).items())
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"Made {now} by Posterion, with {versions}, Python {platform.python_version()} on {platform.system()}."


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_report(posterior: "po.Posterior", path: str | PathLike, *, title: str = "A posterior") -> Path:
    """Write a page about one posterior: how it was fitted, whether to trust it, its ELBO and its parameters.

    Parameters
    ----------
    posterior
        Fitted or loaded.
    path
        The HTML file.
    title
        Heading of the page.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MissingExtraError
        If Matplotlib is not installed.
    """
    from posterion import plots

    with plots.look():
        figure = plots.new_figure(6.6, 3.7)
        plots.plot_elbo(posterior.history, ax=figure.subplots())
        elbo = Picture.of(figure, "elbo", alt="Line plot of the negative ELBO over the steps.", caption=ELBO_CAPTION)
        draws = posterior.sample(1000)
        figure = plots.plot_parameters(draws, figure=plots.new_figure(*plots.parameters_size(draws)))
        alt = f"Marginal posteriors of the {posterior.layout.size:,} parameters."
        parameters = Picture.of(figure, "parameters", alt=alt, caption=PARAMETERS_CAPTION)
    sections = [
        fit_section(posterior, [elbo]),
        verdict_section(posterior),
        Section("The parameters", pictures=[parameters]),
    ]
    return Page(title, posterior.diagnose().summary, sections, footer()).write(path)


ELBO_CAPTION = (
    "Negative ELBO, lower is better. Grey: the noisy estimate of each step. Line: its running mean; it rises where a "
    "round starts again with large steps. Diamonds: clean values on fresh draws, by which the fit decides to stop."
)
PARAMETERS_CAPTION = (
    "Marginal posterior of every parameter: density, median, and central intervals of 50 % (thick) and 90 % (thin)."
)
