"""Models to serve whose answers are known, without fitting anything."""

import numpy as np
import pandas as pd

from posterion.serving import Answer, Input

SLOPES = {"age": 0.08, "size": 1.5}


def training(rows=300):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 90, rows).astype(float),
            "size": rng.gamma(4.0, 0.5, rows).round(3),
            "smoker": rng.uniform(size=rows) < 0.3,
            "ward": rng.choice(["north", "south", "east"], rows, p=[0.5, 0.3, 0.2]),
        }
    )
    frame["finding"] = np.where(rng.uniform(size=rows) < probability(frame), "malignant", "benign")
    return frame


def probability(frame):
    score = SLOPES["age"] * (frame["age"] - 55) + SLOPES["size"] * (frame["size"] - 2)
    score = score + np.asarray(frame["smoker"], float) + (frame["ward"] == "north") * 0.5 - 1
    return 1 / (1 + np.exp(-np.asarray(score, float)))


class FakeClassifier:
    """P(malignant) by a known formula, with an interval of fixed width; refuses to be asked in odd numbers of rows."""

    name, target, task = "Biopsies", "finding", "classification"
    classes = ("benign", "malignant")
    takes_missing = False
    inputs = (
        Input("age", "number", (), 20.0, 89.0, 55.0, whole=True),
        Input("size", "number", (), 0.1, 6.0, 1.8),
        Input("smoker", "boolean"),
        Input("ward", "category", ("north", "south", "east")),
    )

    def __init__(self):
        self.training = training()
        self.asked = []

    def predict(self, frame):
        self.asked.append(len(frame))
        assert list(frame.columns) == ["age", "size", "smoker", "ward"]
        p = probability(frame)
        low, high = np.maximum(p - 0.1, 0), np.minimum(p + 0.1, 1)
        entropy = -(p * np.log(p + 1e-12) + (1 - p) * np.log(1 - p + 1e-12))
        two = lambda a, b: np.stack([a, b], axis=-1)
        return Answer(two(1 - p, p), two(1 - high, low), two(1 - low, high), 0.9 * entropy, 0.1 * entropy)


class FakeRegressor:
    """E(y) = age / 10 + size, some noise; missing numbers count as zero; labels never seen are noted."""

    name, target, task = "Days in hospital", "days", "regression"
    classes = ()
    takes_missing = True
    inputs = FakeClassifier.inputs

    def __init__(self):
        frame = training()
        self.training = frame.drop(columns="finding").assign(days=frame["age"] / 10 + frame["size"])

    def predict(self, frame):
        mean = np.nan_to_num(np.asarray(frame["age"], float)) / 10 + np.nan_to_num(np.asarray(frame["size"], float))
        strange = sorted({w for w in frame["ward"] if w not in (None, "north", "south", "east")})
        one = np.ones(len(frame))
        return Answer(mean, mean - 2, mean + 2, one, 0.5 * one, tuple(f"ward {w!r} is new" for w in strange))
