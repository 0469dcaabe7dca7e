"""The commands. Each imports what it needs when it runs, so that ``--help`` answers at once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import posterion as po
from posterion.cli import tables

app = typer.Typer(
    name="posterion",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Bayesian models by variational inference in JAX, with a verdict and honest predictions.",
    epilog="Exit codes: 0 done, 1 failed (the message says why), 2 called wrongly, 130 interrupted. Compiled programs "
    "are kept in the user's cache folder; POSTERION_CACHE names another one, or none if it is empty.",
)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"posterion {po.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def posterion(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Bayesian models by variational inference in JAX, with a verdict and honest predictions."""


@app.command()
def demo(
    data: Annotated[Literal["cancer", "moons"], typer.Option(help="Breast cancer, or two moons.")] = "cancer",
    output: Annotated[Path, typer.Option(help="Folder for pictures, report and posterior.", file_okay=False)] = Path(
        "posterion-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps, draws and points.")] = False,
    progress: Annotated[bool, typer.Option(help="Show bars while fitting (standard error).")] = True,
) -> None:
    """Fit a Bayesian neural network written in PyMC, and write pictures and a report about it.

    Example: posterion demo --data moons --output posterion-demo
    """
    from posterion.demo import run_demo

    run_demo(data, output, random_seed=seed, quick=quick, progress=progress)


for command in (tables.fit, tables.predict, tables.evaluate, tables.suggest, tables.serve):
    app.command()(command)


@app.command()
def info(
    posterior: Annotated[
        Path | None, typer.Argument(help="A saved posterior or a model's folder to describe.", exists=True)
    ] = None,
) -> None:
    """Describe a saved posterior or a model of a table; without one, this installation.

    Example: posterion info model
    """
    from posterion.cli.information import installation

    if posterior is None:
        for name, value in installation().items():
            typer.echo(f"{name:<14}{value}")
    elif posterior.is_dir():
        from posterion.cli.listing import Listing
        from posterion.tabular.folder import load_model

        Listing(asked=True).trained(load_model(posterior))
    else:
        typer.echo(repr(po.load(posterior)))


@app.command()
def report(
    posterior: Annotated[Path, typer.Argument(help="A saved posterior, or a model's folder.", exists=True)],
    output: Annotated[Path | None, typer.Option("--out", "--output", "-o", help="The page.")] = None,
    table: Annotated[str | None, typer.Option(help="For a model: rows with outcomes to judge it by.")] = None,
) -> None:
    """Write a page about a saved posterior, or about a model of a table and how it does on other rows.

    Example: posterion report model --table later.csv --out later.html
    """
    if posterior.is_dir():
        typer.echo(str(tables.report_on(posterior, output, table)))
        return
    from posterion.report import write_report

    path = posterior.with_suffix(".html") if output is None else output
    typer.echo(str(write_report(po.load(posterior), path, title=posterior.stem)))
