"""A model as a folder that opens anywhere and runs nothing: JSON, arrays, and scikit-learn's parts by skops.

model/
model.json            the meaning of the columns, the summary of the training, versions
estimator.posterion   the fitted estimator: arrays and JSON
preparation.skops     from columns to numbers; only known types of scikit-learn and NumPy are ever loaded
sample.parquet        some training rows, for neighbours, pictures and drift
report.html           what a person should read (written by the command line)
"""

import json
import os
import shutil
import tempfile
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

from posterion._optional import import_optional
from posterion.errors import PosteriorFileError
from posterion.tabular.columns import Schema
from posterion.tabular.model import TabularModel

FORMAT = 1
DESCRIPTION, ESTIMATOR, PREPARATION, SAMPLE, REPORT = (
    "model.json",
    "estimator.posterion",
    "preparation.skops",
    "sample.parquet",
    "report.html",
)

_TRUSTED = ["numpy.dtype"]
"""Beyond scikit-learn's and NumPy's types that skops trusts by itself; a file with any other is refused."""


def save_model(model: TabularModel, folder: str | PathLike) -> Path:
    """Write a model into a folder, which afterwards holds either all of it or what it held before.

    Parameters
    ----------
    model
        What to keep.
    folder
        Made if it does not exist. One that holds another model is replaced; one that holds anything else is refused.

    Raises
    ------
    PosteriorFileError
        If the folder holds files that are not a model's, or cannot be written.
    """
    folder = Path(folder)
    refuse_foreign(folder)
    skops = import_optional("skops.io", "tables", "Saving models of tables")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.estimator.save(work / ESTIMATOR)
        skops.dump(model.preparation, work / PREPARATION)
        model.sample.to_parquet(work / SAMPLE, index=False)
        description = {
            "posterion_model": FORMAT,
            "estimator": type(model.estimator).__name__,
            "target": model.target,
            "task": model.task,
            "classes": list(model.classes),
            "refer_from": model.refer_from,
            "schema": model.schema.to_plain(),
            "summary": model.summary,
        }
        text = json.dumps(_without_nan(description), indent=1, ensure_ascii=False, default=_plain, allow_nan=False)
        (work / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        os.chmod(work, 0o755)
        if folder.exists():
            for part in folder.iterdir():
                part.unlink()
            folder.rmdir()
        work.rename(folder)
    except OSError as error:
        raise PosteriorFileError(f"the model cannot be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def refuse_foreign(folder: str | PathLike) -> None:
    """Refuse to write where something else is.

    Raises
    ------
    PosteriorFileError
        If the path is a file, or a folder with files that do not belong to a model.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise PosteriorFileError(f"{folder} is a file; name a folder for the model")
    known = {DESCRIPTION, ESTIMATOR, PREPARATION, SAMPLE, REPORT}
    strange = sorted(part.name for part in folder.iterdir() if part.name not in known) if folder.exists() else []
    if strange:
        raise PosteriorFileError(f"the folder {folder} holds other files ({strange[:3]}); name another for the model")


def load_model(folder: str | PathLike) -> TabularModel:
    """Read a model that `save_model` wrote. Nothing in the folder is executed.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    PosteriorFileError
        If it is not a model, a part is missing or damaged, or a newer version wrote it.
    """
    import pandas as pd

    folder = Path(folder)
    description = _description(folder)
    from posterion import estimators

    skops = import_optional("skops.io", "tables", "Models of tables")
    kind = getattr(estimators, str(description["estimator"]), None)
    if kind is None:
        raise PosteriorFileError(f"{folder} holds a {description['estimator']!r}, which this version does not know")
    try:
        schema = Schema.from_plain(_with_nan(description["schema"]))
        preparation = skops.load(folder / PREPARATION, trusted=_TRUSTED)
        sample = pd.read_parquet(folder / SAMPLE)
        model = TabularModel(
            kind.load(folder / ESTIMATOR),
            preparation,
            schema,
            description["target"],
            description["task"],
            tuple(description["classes"]),
            description["summary"],
            sample.astype(object).where(sample.notna(), None).astype(sample.dtypes.to_dict()),
            description["refer_from"],
        )
        _ = model.numbers  # taken apart here, where what is wrong with the preparation is told as such
        return model
    except PosteriorFileError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PosteriorFileError(f"the model in {folder} is damaged: {reason}") from error


def is_model(folder: str | PathLike) -> bool:
    """Whether a path is a folder with a model."""
    return (Path(folder) / DESCRIPTION).is_file()


def _description(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise PosteriorFileError(f"{folder} is not a folder with a model; `posterion fit` makes one")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = int(description["posterion_model"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PosteriorFileError(f"{folder} holds no model: its {DESCRIPTION} is missing or damaged") from None
    if version > FORMAT:
        raise PosteriorFileError(
            f"the model in {folder} was written by a newer Posterion; upgrade with: pip install --upgrade posterion"
        )
    return description


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _without_nan(value: Any) -> Any:
    """JSON has no word for what is not a number: null."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def _with_nan(schema: dict[str, Any]) -> dict[str, Any]:
    numbers = ("low", "high", "middle")
    columns = [c | {name: float("nan") for name in numbers if c[name] is None} for c in schema["columns"]]
    return schema | {"columns": columns}
