"""Which method "auto" stands for, for one model and its data."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from posterion.data.source import AbstractSource
from posterion.distributed import Team
from posterion.engine.given import prepare_data
from posterion.engine.task import Task
from posterion.methods import AbstractMethod, Auto
from posterion.methods.probe import missed_width
from posterion.target import AbstractRowTarget, AbstractTarget


def choose_method(
    auto: Auto,
    target: AbstractTarget,
    data: Mapping[str, Any] | AbstractSource | None,
    *,
    by_steps: str,
    is_network: bool,
    seed: int,
    x64: bool,
    team: Team,
) -> tuple[AbstractMethod, str]:
    """A method, and a sentence that says why.

    Parameters
    ----------
    auto, target, data
        What chooses, for what.
    by_steps
        What asks for a method of steps; empty if nothing does.
    is_network
        Whether the model multiplies activations by weights.
    seed, x64, team
        Of the fit.
    """

    def probe() -> float:
        given = prepare_data(target, data, batch_size=None, over=None, steps=False, seed=seed)
        with jax.enable_x64(x64):
            task = Task(given, seed, team)
            try:
                start = task.finite_start(task.initial_point(), task.start_seed)
                return float(team.agree(np.float64(missed_width(task.derivatives, start, task.sample, seed))))
            finally:
                task.rows.rest()

    rows = max(target.num_rows.values(), default=0) if isinstance(target, AbstractRowTarget) else 0
    if isinstance(data, AbstractSource):
        rows = data.num_rows
    return auto.choose(target.layout.size, is_network=is_network, by_steps=by_steps, rows=rows, probe=probe)
