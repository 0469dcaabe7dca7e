"""A hospital's table with every kind of column, made up."""

import numpy as np
import pandas as pd


def admissions(rows=240, seed=0):
    """A table with every kind of column, gaps, and labels too rare for a column of their own."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(20, 90, rows).astype(float),
            "marker": rng.gamma(4.0, 0.5, rows).round(3),
            "smoker": rng.choice(["yes", "no"], rows),
            "ward": rng.choice(["north", "south", "east", "attic"], rows, p=[0.5, 0.28, 0.2, 0.02]),
            "admitted": (pd.Timestamp("2019-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), "D")).strftime(
                "%Y-%m-%d"
            ),
        }
    )
    score = 0.08 * (frame["age"] - 55) + 1.5 * (frame["marker"] - 2) + (frame["ward"] == "north")
    frame["outcome"] = np.where(rng.uniform(size=rows) < 1 / (1 + np.exp(-score)), "readmitted", "well")
    frame["days"] = 2 + 0.1 * frame["age"] + frame["marker"] + rng.normal(size=rows)
    for name, gaps in (("marker", 9), ("ward", 7), ("smoker", 5), ("admitted", 4)):
        frame.loc[rng.choice(rows, gaps, replace=False), name] = None
    return frame
