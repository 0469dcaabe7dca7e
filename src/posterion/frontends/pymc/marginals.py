"""A repair of what `pymc_extras.marginalize` makes of discrete variables, in force only inside `repaired_marginals`.

Since https://github.com/pymc-devs/pytensor/pull/1908 the graph inside an operation is frozen, and pymc-extras (0.12.1)
replaces its inputs as if it were not: PyMC itself cannot write down the log density of such a model then. The test of
this repair shows that, and fails, saying so, once it is mended there.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_MODULE, _NAME = "pymc_extras.model.marginal.distributions", "inline_ofg_outputs"


@contextmanager
def repaired_marginals() -> Iterator[None]:
    """Within, and for this thread alone, frozen graphs are thawed before their inputs are replaced."""
    module = sys.modules.get(_MODULE)  # who has marginalised something has loaded it
    original = getattr(module, _NAME, None)
    if module is None or original is None:
        yield
        return
    here = threading.get_ident()

    def inlined(op: Any, inputs: Sequence[Any]) -> Any:
        if threading.get_ident() != here or not hasattr(op.fgraph, "unfreeze"):
            return original(op, inputs)
        from pytensor.graph.replace import graph_replace

        graph = op.fgraph.unfreeze()
        return graph_replace(graph.outputs, replace=tuple(zip(graph.inputs, inputs, strict=True)), strict=False)

    setattr(module, _NAME, inlined)
    try:
        yield
    finally:
        setattr(module, _NAME, original)
