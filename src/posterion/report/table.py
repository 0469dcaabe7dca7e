"""The page about a model of a table: what it is made from, how good it is, when to ask a person, what it rests on."""

from typing import TYPE_CHECKING, Any

import numpy as np

from posterion import decisions, plots
from posterion.report.fit import footer
from posterion.report.page import Page, Picture, Section, Table

if TYPE_CHECKING:
    import pandas as pd

    from posterion.tabular.columns import Column
    from posterion.tabular.model import TabularModel
    from posterion.tabular.training import HeldOut

_IMPORTANCE_ROWS, _BACKGROUND_ROWS, _GRID = 600, 120, 36
_NAMES = {
    "accuracy": "accuracy",
    "log_score": "log score (nats a row)",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "rmse": "root mean squared error",
    "mae": "mean absolute error",
    "r2": "share of variance explained",
    "coverage_90": "share inside the 90 % interval",
}


def table_report(model: "TabularModel", held: "HeldOut | None", *, source: str = "") -> Page:
    """Write about a model of a table.

    Parameters
    ----------
    model
        As `posterion fit` makes it.
    held
        Rows with known outcomes that nothing was fitted to; None if there are none.
    source
        Where the training rows came from, for the line that says how to make the model again.
    """
    sections = [_columns(model)]
    if held is None:
        sections.append(Section("How good it is", ["No rows were held out, so there is nothing to judge it by."]))
    else:
        sections += [_scores(model, held), *_calibration(model, held)]
        strongest, drivers = _drivers(model, held)
        sections.append(drivers)
        if len(strongest) >= 2:
            sections.append(_surfaces(model, strongest[0], strongest[1]))
        sections.append(_most_uncertain(model, held))
    sections.append(_again(model, source))
    return Page(f"Predicting {model.target}", _lead(model), sections, footer())


def _lead(model: "TabularModel") -> str:
    rows, scores = model.summary["rows"], model.summary.get("scores")
    what = f"one of {len(model.classes)} labels" if model.task == "classification" else "a number"
    begin = f"A Bayesian neural network that predicts {model.target}, {what}, from {len(model.schema.columns)} columns"
    begin += f"; {rows['training']:,} rows were fitted"
    if not scores:
        return begin + "."
    if model.task == "classification":
        return f"{begin}. On {rows['held_out']:,} rows held out it is right in {scores['accuracy']:.1%}."
    return f"{begin}. On {rows['held_out']:,} rows held out it is off by {scores['mae']:.4g} on average."


def _columns(model: "TabularModel") -> Section:
    from posterion.tabular.preparation import RULES

    rows = [(c.name, c.kind, c.describe(), f"{c.missing:,}" if c.missing else "") for c in model.schema.columns]
    points = [f"Left out: {name} {reason}." for name, reason in model.schema.dropped]
    points += [f"Suspicious: {suspicion['text']}." for suspicion in model.summary["suspicions"]]
    points += [f"Rare: {label}." for label in model.summary.get("rare_labels", [])]
    points += [f"Repeated: {repeated}."] if (repeated := model.summary.get("repeated")) else []
    missing = {c.kind for c in model.schema.columns if c.missing}
    points += [f"Missing values of a {kind}: {RULES[kind]}." for kind in sorted(missing)]
    table = Table(("column", "kind", "content", "missing"), rows, "The columns it uses, in the training rows")
    return Section(
        "What it was made from", [f"{model.target} is taken for {model.task}: {model.summary['why']}."], points, [table]
    )


def _scores(model: "TabularModel", held: "HeldOut") -> Section:
    scores = {"this model": model.score(held.features, held.outcomes)}
    if len(held.outcomes) == model.summary["rows"]["held_out"]:
        scores |= model.summary.get("baselines", {})
    names = list(scores["this model"])
    rows = [
        (who, *(f"{round(found[name], 12):.4g}" if name in found else "" for name in names))
        for who, found in scores.items()
    ]
    table = Table(
        ("", *(_NAMES[name] for name in names)), rows, f"On {len(held.outcomes):,} rows that nothing was fitted to"
    )
    text = "The log score rewards a sure and right prediction and punishes a sure and wrong one; larger is better."
    return Section("How good it is", [text], tables=[table])


def _calibration(model: "TabularModel", held: "HeldOut") -> list[Section]:
    if model.task == "regression":
        levels = np.linspace(0.1, 0.9, 9)
        inside = [
            np.mean((low <= held.outcomes) & (held.outcomes <= high))
            for low, high in (model.estimator.predict_interval(held.features, coverage=c).T for c in levels)
        ]
        rows = [(f"{level:.0%}", f"{share:.1%}") for level, share in zip(levels, inside, strict=True)]
        caption = "Central intervals, and how many of the held-out outcomes they hold"
        return [Section("Are its intervals right?", tables=[Table(("promised", "found"), rows, caption)])]
    probabilities = model.estimator.predict_proba(held.features)
    binary = probabilities.shape[1] == 2
    p = probabilities[:, 1] if binary else probabilities.max(axis=1)
    hit = held.outcomes if binary else (probabilities.argmax(axis=1) == held.outcomes).astype(int)
    what = model.classes[1] if binary else "the predicted label"
    reliability = plots.plot_reliability(decisions.reliability(p, hit), outcome=what)
    sections = [
        Section(
            "Are its probabilities right?",
            [f"Points on the diagonal: of the rows it gives a probability of 70 %, {what} is true in 70 %."],
            pictures=[
                Picture.of(
                    reliability.figure,
                    "reliability",
                    alt=f"Frequencies of {what} against the predicted probabilities, with intervals",
                    caption="Predicted probabilities against what came true; bars are 95 % intervals.",
                )
            ],
        )
    ]
    wrong = (probabilities.argmax(axis=1) != held.outcomes).astype(float)
    uncertainty = model.estimator.uncertainty(held.features)
    kinds = {"doubt": 1 - probabilities.max(axis=1), "epistemic": uncertainty["epistemic"]}
    curve = decisions.referral_curve(wrong, kinds)
    picture = Picture.of(
        plots.plot_referral(curve, loss="error rate of the rows kept").figure,
        "referral",
        alt="Error rate among the rows kept, against the share of rows referred to a person",
        caption="If the most uncertain rows are left to a person, how often is the model wrong on the rest?",
    )
    text = []
    if model.refer_from is not None:
        refer = kinds["doubt"] >= model.refer_from
        kept = wrong[~refer].mean() if (~refer).any() else float("nan")
        text = [
            f"Rows with a doubt of {model.refer_from:.3f} or more are marked for a person: {refer.mean():.0%} of the "
            f"held-out rows. Among the others it is wrong in {kept:.1%}; over all rows in {wrong.mean():.1%}."
        ]
    return [*sections, Section("When should somebody look?", text, pictures=[picture])]


def _drivers(model: "TabularModel", held: "HeldOut") -> tuple[list["Column"], Section]:
    """The strongest columns that are numbers, and what is to be said of all of them."""
    some = slice(0, _IMPORTANCE_ROWS)
    frame, outcomes = held.frame.iloc[some].reset_index(drop=True), held.outcomes[some]
    score = lambda rows: model.log_scores(model.features(rows), outcomes)
    importance = decisions.permutation_importance(score, frame, repeats=3)
    order = [str(name) for name in importance.sortby("importance", ascending=False).column.values]
    by_name = {column.name: column for column in model.schema.columns}
    pictures = [
        Picture.of(
            plots.plot_importance(importance).figure,
            "importance",
            alt="How much the log score falls when a column is shuffled, for the strongest columns",
            caption="A column the predictions do not rest on can be shuffled without harm.",
        )
    ]
    background = frame.iloc[:_BACKGROUND_ROWS]
    pictures += [_dependence(model, background, by_name[name]) for name in order[:4]]
    text = [
        "All of this asks the model, not the world: a column that predicts because it goes along with a cause is "
        "important here, and changing it may change nothing."
    ]
    numeric = [by_name[name] for name in order if by_name[name].kind == "number"]
    return numeric, Section("What the predictions rest on", text, pictures=pictures)


def _shown(model: "TabularModel", x: np.ndarray) -> np.ndarray:
    """The number that pictures show: the second label's probability, the largest one, or the mean."""
    if model.task == "regression":
        return model.estimator.predict(x)
    probabilities = model.estimator.predict_proba(x)
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities.max(axis=1)


def _outcome(model: "TabularModel") -> str:
    if model.task == "regression":
        return model.target
    return f"probability of {model.classes[1]}" if len(model.classes) == 2 else "largest probability"


def _dependence(model: "TabularModel", background: "pd.DataFrame", column: "Column") -> Picture:
    import pandas as pd

    if column.kind == "category":
        values: Any = list(column.categories[:8])
    elif column.kind == "boolean":
        values = [0.0, 1.0]
    else:
        known = model.sample[column.name].dropna().to_numpy(np.float64)
        values = np.unique(np.quantile(known, np.linspace(0.02, 0.98, 20)))
    parts = [background.assign(**{column.name: value}) for value in values]
    predicted = _shown(model, model.features(pd.concat(parts, ignore_index=True))).reshape(len(values), -1)
    low, high = np.quantile(predicted, (0.1, 0.9), axis=1)
    name, labels = column.name, values
    if column.kind == "boolean":
        labels = ["no", "yes"]
    elif column.kind == "date":
        name, labels = f"{name} (year)", 1970 + values
    axes = plots.plot_dependence(labels, predicted.mean(1), low, high, name=name, outcome=_outcome(model))
    return Picture.of(
        axes.figure,
        f"dependence-{model.schema.names.index(column.name)}",
        alt=f"Mean prediction against {column.name}, with a band",
        caption=f"Mean prediction when {column.name} is set, all else as it is; the band holds 80 % of the rows.",
    )


def _surfaces(model: "TabularModel", first: "Column", second: "Column") -> Section:
    import pandas as pd

    sample = model.sample
    ends = [np.nanquantile(sample[c.name].to_numpy(np.float64), (0.01, 0.99)) for c in (first, second)]
    across, up = (np.linspace(float(low), float(high), _GRID) for low, high in ends)
    middle = {
        c.name: (c.categories[0] if c.kind == "category" else sample[c.name].median()) for c in model.schema.columns
    }
    a, b = np.meshgrid(across, up)
    grid = pd.DataFrame({name: np.repeat(value, a.size) for name, value in middle.items()})
    x = model.features(grid.assign(**{first.name: a.ravel(), second.name: b.ravel()}))
    parts = model.estimator.uncertainty(x)
    unit = "nats" if model.task == "classification" else model.target
    if model.task == "regression":
        parts = {name: np.sqrt(values) for name, values in parts.items()}
    figure = plots.new_figure(10.2, 3.3)
    panels = figure.subplots(1, 3)
    points = None
    if model.task == "classification" and len(model.classes) == 2:
        inputs = sample[[first.name, second.name]].to_numpy(np.float64)
        points = (inputs, (sample[model.target].astype(str) == model.classes[1]).to_numpy().astype(int))
    names, shape = (first.name, second.name), a.shape
    draw = plots.plot_probability if points is not None else plots.plot_surface
    options: dict[str, Any] = {"input_names": names}
    draw(across, up, _shown(model, x).reshape(shape), ax=panels[0], title=_outcome(model), points=points, **options)
    for panel, part, word in ((panels[1], "aleatoric", "noise"), (panels[2], "epistemic", "ignorance")):
        plots.plot_surface(
            across, up, parts[part].reshape(shape), ax=panel, title=f"{word} ({part}, {unit})", **options
        )
    picture = Picture.of(
        figure,
        "surfaces",
        alt=f"Prediction, noise and ignorance over {first.name} and {second.name}",
        caption=f"Over {first.name} and {second.name}, the two strongest numbers; all others at their middle value.",
    )
    text = "Noise stays however many rows one has; ignorance is what more rows like these would take away."
    return Section("Noise and ignorance", [text], pictures=[picture])


def _most_uncertain(model: "TabularModel", held: "HeldOut") -> Section:
    predicted = model.predict_checked(held.frame)
    by = "doubt" if model.task == "classification" else "std"
    top = predicted[by].to_numpy().argsort()[::-1][:10]
    columns = model.schema.columns[:4]
    known = [model.classes[k] for k in held.outcomes] if model.classes else [f"{y:.4g}" for y in held.outcomes]
    cell = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    rows = [
        (
            f"{held.numbers[k]:,}",
            cell(predicted["prediction"].iloc[k]),
            known[k],
            *(f"{predicted[name].iloc[k]:.3g}" for name in (by, "aleatoric", "epistemic")),
            *(column.written(held.frame[column.name].iloc[k]) for column in columns),
        )
        for k in top
    ]
    table = Table(
        ("row", "predicted", "true", by, "aleatoric", "epistemic", *(column.name for column in columns)),
        rows,
        "The ten most uncertain of the rows held out; row 1 is the first below the names of the columns",
    )
    return Section("The most uncertain rows", tables=[table])


def _again(model: "TabularModel", source: str) -> Section:
    drop = "".join(f" --drop '{name}'" for name in model.summary["left_out_on_request"])
    command = f"posterion fit '{source}' --target '{model.target}' --task {model.task}"
    command += f" --seed {model.summary['random_seed']}{drop}"
    made = ", ".join(f"{name} {value}" for name, value in model.summary["made"].items())
    return Section("Making it again", [f"Made with {made}."], code=command)
