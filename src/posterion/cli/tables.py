"""Commands for tables: fit a model to one, and ask it about others.

Results go to standard output, all else to standard error.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posterion.cli.listing import Listing

if TYPE_CHECKING:
    from posterion.tabular.model import TabularModel

Table = Annotated[str, typer.Argument(help="A table: .csv, .tsv, .parquet, .feather, .xlsx, or - for standard input.")]
Model = Annotated[Path, typer.Argument(help="A model's folder, as `posterion fit` writes it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a listing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing that is not asked for.")]


def fit(
    table: Annotated[
        str, typer.Argument(help="A table, or FILE.py:NAME for a PyMC model, a NumPyro function, or a .stan program.")
    ],
    target: Annotated[str | None, typer.Option("--target", "-t", help="The column to predict.")] = None,
    task: Annotated[
        Literal["auto", "classification", "regression"], typer.Option(help="What the target is: labels or numbers.")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model (a file for a written model).")] = Path(
        "model"
    ),
    drop: Annotated[list[str] | None, typer.Option(help="A column that must not be used; may be repeated.")] = None,
    data: Annotated[str | None, typer.Option(help="Data for a written model: a table, or JSON for Stan.")] = None,
    held_out: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of rows that scores are computed on.")] = 0.2,
    refer: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of rows to be left to a person.")] = 0.2,
    method: Annotated[str, typer.Option(help="How a written model is fitted.")] = "advi",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same model.")] = 0,
    report: Annotated[bool, typer.Option(help="Write report.html into the model's folder.")] = True,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Learn to predict a column of a table, or fit a model written in PyMC, NumPyro or Stan.

    Example: posterion fit patients.csv --target diagnosis --out model
    """
    if ".py:" in table or table.endswith(".stan"):
        from posterion.cli.written import fit_written

        fit_written(table, data, method=method, out=out, seed=seed, as_json=as_json, quiet=quiet)
        return
    if target is None:
        raise typer.BadParameter("name the column to predict, such as --target diagnosis", param_hint="--target")
    from posterion.tabular.folder import REPORT, refuse_foreign, save_model
    from posterion.tabular.reading import read_table
    from posterion.tabular.training import fit_table

    refuse_foreign(out)  # before any work
    frame = read_table(table)
    listing = Listing(quiet=quiet)
    options = {"task": task, "leave_out": drop or (), "held_out": held_out, "refer": refer, "random_seed": seed}
    so_far = f"nothing was written to {out}"
    try:
        with listing.busy() as tell:
            model, held = fit_table(frame, target, tell=tell, **options)
            save_model(model, out)  # before the report, so that Ctrl-C leaves the model
            so_far = f"the model is in {out}, without its report"
            if report:
                tell("Writing the report")
                from posterion.report.table import table_report

                table_report(model, held, source=table).write(out / REPORT)
    except KeyboardInterrupt:
        listing.say(f"Interrupted: {so_far}")
        raise
    if as_json:
        print(json.dumps(_summary(model, out), indent=1, default=float))
        return
    listing.trained(model)
    listing.say(f"\nModel in {out}" + (f", report in {out / REPORT}" if report else ""))
    listing.say(f"Next: posterion predict {out} NEW.csv -o predictions.csv, or posterion serve {out}")


def predict(
    model: Model,
    table: Table,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .csv, .parquet or .feather file; else CSV is printed."),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Repeat the table's own columns before the predictions.")] = False,
    quiet: Quiet = False,
) -> None:
    """Predict the rows of a table, however many: labels or numbers, with their uncertainty.

    Example: posterion predict model new.csv -o predictions.parquet
    """
    from posterion.tabular.model import beside
    from posterion.tabular.reading import read_parts
    from posterion.tabular.writing import writer

    opened, listing = _open(model), Listing(quiet=quiet)
    notes: dict[str, None] = {}
    rows = 0
    with listing.busy() as tell, writer(out) as write:
        for part in read_parts(table):
            checked = opened.check(part, first_row=rows + 1)
            notes |= dict.fromkeys(checked.notes)
            predicted = opened.predict_checked(checked.frame)
            write(beside(part, predicted) if keep else predicted)
            rows += len(part)
            tell(f"Predicted {rows:,} rows")
    for note in list(notes)[:20]:
        listing.say(f"note: {note}")
    listing.say(f"{rows:,} rows predicted" + ("" if out is None else f" into {out}"))


def evaluate(model: Model, table: Table, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Score a model on rows whose outcome is known.

    Example: posterion evaluate model later.csv
    """
    from posterion.tabular.reading import read_table

    opened, listing = _open(model), Listing(quiet=quiet)
    frame = read_table(table)
    with listing.busy() as tell:
        tell(f"Scoring {len(frame):,} rows")
        scores = opened.evaluate(frame)
        apart = opened.drift(frame)
    if as_json:
        print(json.dumps({"rows": len(frame), "scores": scores, "drift": str(apart)}, indent=1, default=float))
        return
    found = Listing(asked=True)
    found.scores({"this model": scores}, f"{len(frame):,} rows of {table}")
    found.say(str(apart))


def suggest(
    model: Model,
    table: Table,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many rows.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to; without it CSV is printed.")] = None,
    quiet: Quiet = False,
) -> None:
    """The rows of a table whose outcome, once known, would teach the model most.

    Example: posterion suggest model pool.csv --count 20
    """
    from posterion.tabular.reading import read_table
    from posterion.tabular.writing import writer

    opened = _open(model)
    with Listing(quiet=quiet).busy() as tell, writer(out, index=True) as write:
        tell("Looking for rows that would teach most")
        chosen = opened.suggest(read_table(table), count)
        chosen.index = chosen.index + 1
        write(chosen.rename_axis("row"))


def serve(
    model: Model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from here alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port.")] = 8000,
    quiet: Quiet = False,
) -> None:
    """Serve a model: an API, and a page where one can ask it about a single row or upload a table.

    Example: posterion serve model --port 8000
    """
    from posterion.serving import serve
    from posterion.tabular.served import ServedTable

    opened, name = _open(model), model.resolve().name
    served = ServedTable(opened, opened.target if name == "model" else name)  # "model" is what nobody has chosen
    Listing(quiet=quiet).say(f"Serving {model} at http://{host}:{port} (Ctrl-C ends it)")
    serve(served, host=host, port=port, quiet=quiet)


def _open(folder: Path) -> "TabularModel":
    from posterion.tabular.folder import load_model

    return load_model(folder)


def _summary(model: "TabularModel", out: Path) -> dict[str, Any]:
    return {
        "model": str(out),
        "target": model.target,
        "task": model.task,
        "classes": list(model.classes),
        "columns": [{"name": c.name, "kind": c.kind, "missing": c.missing} for c in model.schema.columns],
        "dropped": dict(model.schema.dropped),
        **model.summary,
    }


def report_on(folder: Path, output: Path | None, table: str | None) -> Path:
    """Write the page about a model, with the rows of a table to judge it by if there is one."""
    from posterion.report.table import table_report
    from posterion.tabular.folder import REPORT
    from posterion.tabular.reading import read_table
    from posterion.tabular.training import held_out_of

    model = _open(folder)
    rows = None if table is None else held_out_of(model, read_table(table))
    return table_report(model, rows, source=table or str(folder)).write(output or folder / REPORT)
