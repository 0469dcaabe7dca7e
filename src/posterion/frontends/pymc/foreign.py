"""The one door to PyMC's and PyTensor's internals: every name outside their public documentation comes from here.

Importing these packages has side effects on JAX that belong to the user, and that are undone here: PyTensor's JAX
dispatch sets JAX's global precision to PyTensor's ``floatX``. ``pymc.sampling.jax`` is never imported, because it adds
``--xla_force_host_platform_device_count=100`` to XLA_FLAGS.
"""

# ruff: noqa: E402, TID253
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax

_X64 = jax.config.values["jax_enable_x64"]
_XLA_FLAGS = os.environ.get("XLA_FLAGS")

import pymc
import pytensor
import pytensor.link.jax.dispatch
import pytensor.tensor as pt
import pytensor.xtensor as px
from pymc.data import MinibatchOp
from pymc.distributions.shape_utils import change_dist_size
from pymc.distributions.simulator import SimulatorRV
from pymc.initial_point import make_initial_point_expression
from pymc.logprob.basic import transformed_conditional_logp
from pymc.logprob.utils import replace_rvs_by_values
from pymc.pytensorf import find_rng_nodes, replace_rng_nodes, reseed_rngs
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.compile.mode import Mode, get_mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import graph_inputs
from pytensor.link.jax.dispatch import jax_funcify
from pytensor.raise_op import CheckAndRaise
from pytensor.scalar.basic import Cast
from pytensor.scan.op import Scan
from pytensor.tensor.basic import Alloc, ARange, Nonzero
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.extra_ops import Repeat, Unique
from pytensor.tensor.linalg import Eigvalsh
from pytensor.tensor.random.basic import BernoulliRV, CategoricalRV
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Reshape, Shape, Shape_i
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor
from pytensor.tensor.type import TensorType

from posterion.frontends.pymc.marginals import repaired_marginals

if jax.config.values["jax_enable_x64"] != _X64:
    jax.config.update("jax_enable_x64", _X64)  # noqa: TID251  put back what importing PyTensor changed
if os.environ.get("XLA_FLAGS") != _XLA_FLAGS:
    if _XLA_FLAGS is None:
        del os.environ["XLA_FLAGS"]
    else:
        os.environ["XLA_FLAGS"] = _XLA_FLAGS

graph_lock = threading.RLock()
"""Held by whoever works with PyTensor's graphs, which promise nothing about threads."""


@contextmanager
def graph_work() -> Iterator[None]:
    """Within, this thread alone builds and rewrites graphs.

    Nodes made here do not record where they were made, which takes PyTensor half of the time and serves its own error
    messages only.
    """
    with graph_lock, pytensor.config.change_flags(traceback__limit=0), repaired_marginals():
        yield


PYTHON_MODE = Mode(linker="py", optimizer=None)
"""Evaluate a graph operation by operation in NumPy: nothing is compiled, milliseconds to set up."""

__all__ = [
    "PYTHON_MODE",
    "ARange",
    "AdvancedIncSubtensor",
    "AdvancedSubtensor",
    "Alloc",
    "BernoulliRV",
    "CategoricalRV",
    "Cast",
    "CheckAndRaise",
    "Constant",
    "Eigvalsh",
    "Elemwise",
    "FunctionGraph",
    "MinibatchOp",
    "MinibatchRandomVariable",
    "Nonzero",
    "RandomType",
    "RandomVariable",
    "Repeat",
    "Reshape",
    "Scan",
    "Shape",
    "Shape_i",
    "SharedVariable",
    "SimulatorRV",
    "TensorType",
    "Unique",
    "Variable",
    "change_dist_size",
    "dfs_rewriter",
    "find_rng_nodes",
    "get_mode",
    "graph_inputs",
    "graph_lock",
    "graph_work",
    "jax_funcify",
    "make_initial_point_expression",
    "node_rewriter",
    "pt",
    "px",
    "pymc",
    "pytensor",
    "replace_rng_nodes",
    "replace_rvs_by_values",
    "reseed_rngs",
    "rewrite_graph",
    "transformed_conditional_logp",
]


def is_sparse(variable: Variable) -> bool:
    """True for a variable of one of PyTensor's sparse types."""
    return "Sparse" in type(variable.type).__name__


def is_labelled(variable: Variable) -> bool:
    """True for a variable with named axes (`pymc.dims`)."""
    return hasattr(variable.type, "dims")


def as_plain(variable: Variable) -> Variable:
    """The same values without named axes."""
    return variable.values if is_labelled(variable) else variable


def as_type_of(plain: Variable, like: Variable) -> Variable:
    """``plain`` with the named axes of ``like``, if that has any."""
    return px.as_xtensor(plain, dims=like.type.dims) if is_labelled(like) else plain
