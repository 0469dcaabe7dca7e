"""Tables that do not fit into memory: a file of rows in, a file of predictions out, a part of it at a time.

What is kept of every row is one number, its uncertainty; the line between rows to keep and rows to refer needs all of
them. Predictions wait in a temporary file until it is drawn.
"""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from posterion.serving.limits import SIZES
from posterion.serving.model import Answer
from posterion.serving.rows import frames_from_csv
from posterion.serving.service import Service

_LINES_AT_ONCE = 4096


def predict_file(service: Service, rows: IO[bytes], *, refer: float) -> Iterator[bytes]:
    """Predictions of a CSV file as CSV, in the rows' order, with a column that says which rows to refer.

    Everything is read and predicted before the first line is given, so that a fault in the last row is still an error.

    Parameters
    ----------
    service
        The model.
    rows
        The table, a file of bytes.
    refer
        Share of the rows to refer: the most uncertain ones.

    Raises
    ------
    RefusedError
        For a table that is not what the model takes.
    """
    waiting = tempfile.TemporaryFile()
    try:
        doubts = []
        for frame in frames_from_csv(service.model, rows, rows=SIZES[-1], most=service.limits.upload_rows):
            answer = service.predict(frame)
            doubts.append(answer.uncertainty)
            waiting.write(_lines(service, answer))
        doubt = np.concatenate(doubts)
    except BaseException:
        waiting.close()
        raise
    return _with_referral(service, waiting, _referred(doubt, refer))


def header(service: Service) -> list[str]:
    """Names of the columns of predictions."""
    if service.model.task == "regression":
        return ["row", "mean", "low", "high", "aleatoric", "epistemic", "refer"]
    classes = [f"probability_{name}" for name in service.model.classes]
    return ["row", "label", *classes, "aleatoric", "epistemic", "refer"]


def _lines(service: Service, answer: Answer) -> bytes:
    """All but the row's number and whether it is referred."""
    import pandas

    columns: dict[str, Any] = {}
    if service.model.task == "regression":
        columns |= {"mean": answer.mean, "low": answer.low, "high": answer.high}
    else:
        names = list(service.model.classes)
        columns["label"] = np.asarray(names, dtype=object)[np.argmax(answer.mean, axis=1)]
        columns |= {f"probability_{name}": answer.mean[:, k] for k, name in enumerate(names)}
    columns |= {"aleatoric": answer.aleatoric, "epistemic": answer.epistemic}
    text = pandas.DataFrame(columns).to_csv(index=False, header=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def _referred(doubt: np.ndarray, share: float) -> np.ndarray:
    """The most uncertain share of the rows, rounded down; among equals the first ones."""
    number = int(share * len(doubt) + 1e-9)
    chosen = np.zeros(len(doubt), bool)
    chosen[np.argsort(-doubt, kind="stable")[:number]] = True
    return chosen


def _with_referral(service: Service, waiting: IO[bytes], referred: np.ndarray) -> Iterator[bytes]:
    import csv
    import io

    with waiting:
        waiting.seek(0)
        names = io.StringIO()
        csv.writer(names, lineterminator="\n").writerow(header(service))
        yield names.getvalue().encode()
        block: list[bytes] = []
        # Names of classes that hold line breaks are refused when the service starts, so a line is a row.
        for number, line in enumerate(waiting):
            block.append(b"%d,%s,%s\n" % (number + 1, line.rstrip(b"\n"), b"yes" if referred[number] else b"no"))
            if len(block) == _LINES_AT_ONCE:
                yield b"".join(block)
                block.clear()
        yield b"".join(block)
