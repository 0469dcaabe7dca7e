"""Every array a model was given becomes a named input: data containers, mini-batches, observed values, plain arrays.

A PyMC model holds its arrays in four ways: as ``pm.Data`` (a shared variable with a name and dims), as a shared
variable of PyTensor, as the source of a ``pm.Minibatch``, and as constants in the graph, which is what a NumPy array in
a formula becomes. All of them are inputs here, so that one compiled program serves other data of the same shapes, and
so that rows can be cut from them. Constants stay constants unless they have as many rows as an observed variable or are
large.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from posterion.frontends.pymc.foreign import (
    PYTHON_MODE,
    Constant,
    MinibatchOp,
    RandomVariable,
    SharedVariable,
    TensorType,
    Variable,
    is_labelled,
    is_sparse,
    pymc,
)
from posterion.frontends.pymc.substitute import ancestors

SMALL = 5
"""Constants with fewer elements stay in the program even if they happen to have as many entries as there are rows."""
LARGE = 10_000
"""Constants with at least this many elements are inputs whatever their shape: XLA is slow with large literals."""

Kind = Literal["data", "shared", "minibatch", "observed", "constant"]


@dataclass
class Input:
    """One array of the model.

    Parameters
    ----------
    name
        What the user calls it: the pm.Data's or the observed variable's name.
    variables
        The graph's variables it stands for.
    read
        Its value now.
    kind
        How the model holds it.
    dims
        Names of its axes, or empty.
    only_observed
        True if it enters only as the value of an observed variable.
    """

    name: str
    variables: list[Variable]
    read: Callable[[], np.ndarray]
    kind: Kind
    dims: tuple[str | None, ...] = ()
    only_observed: bool = False

    @property
    def dtype(self) -> str:
        """NumPy name of the type the graph declares."""
        return self.variables[0].type.dtype


@dataclass
class MinibatchGroup:
    """What one call of pm.Minibatch cuts with one random index.

    Parameters
    ----------
    batch_size
        Rows per step.
    num_rows
        Rows there are.
    names
        The inputs that are cut.
    outputs
        The graph's variables that held the random rows.
    """

    batch_size: int
    num_rows: int
    names: list[str] = field(default_factory=list)
    outputs: list[Variable] = field(default_factory=list)


def unique_name(name: str, taken: Collection[str]) -> str:
    """``name``, or ``name_2``, ``name_3``, ... if it is taken."""
    candidate, k = name, 1
    while candidate in taken:
        k += 1
        candidate = f"{name}_{k}"
    return candidate


def placeholder(variable: Variable, name: str) -> Variable:
    """A root variable of the same type whose first axis may have any length."""
    kind = variable.type
    shape = (None, *kind.shape[1:]) if kind.ndim else ()
    if is_labelled(variable):
        return kind.clone(shape=shape)(name=name)
    return TensorType(kind.dtype, shape)(name=name)


def reader(source: Variable) -> Callable[[], np.ndarray]:
    """A function that gives a root variable's (or a cast of one's) current value, without a copy where possible."""
    if isinstance(source, SharedVariable):
        return lambda: np.asarray(source.get_value(borrow=True))
    if isinstance(source, Constant):
        return lambda: np.asarray(source.data)
    return lambda: np.asarray(source.eval(mode=PYTHON_MODE))


def minibatch_inputs(
    model: "pymc.Model", reached: Iterable[Variable], observed_values: dict[Variable, str]
) -> tuple[dict[str, Input], list[MinibatchGroup]]:
    """The arrays behind every ``pm.Minibatch`` of a model.

    Parameters
    ----------
    model
        The model.
    reached
        All variables of its graphs.
    observed_values
        Value variable to the name of the observed variable.
    """
    nodes = dict.fromkeys(v.owner for v in reached if v.owner is not None and isinstance(v.owner.op, MinibatchOp))
    data_variables = set(model.data_vars)
    value_of = {}
    for value, observed in observed_values.items():
        for variable in ancestors([value], shapes_too=False):
            value_of.setdefault(variable, observed)
    inputs: dict[str, Input] = {}
    groups = []
    for node in sorted(nodes, key=lambda n: sorted(value_of.get(o, "~") for o in n.outputs)):
        draw = next(n for n in node.op.fgraph.apply_nodes if isinstance(n.op, RandomVariable))
        batch_size = int(np.ravel(draw.op.size_param(draw).data)[0])
        group = MinibatchGroup(batch_size, 0)
        for source, output in zip(node.inputs[:-1], node.outputs[:-1], strict=True):
            root = source
            while root.owner is not None and len(root.owner.inputs) == 1:  # casts of a pm.Data
                root = root.owner.inputs[0]
            container = root.name if root in data_variables else None
            name = unique_name(container or value_of.get(output) or output.name or "minibatch", inputs)
            dims = model.named_vars_to_dims.get(container or value_of.get(output)) or ()
            inputs[name] = Input(name, [placeholder(output, name)], reader(source), "minibatch", tuple(dims))
            group.names.append(name)
            group.outputs.append(output)
        group.num_rows = inputs[group.names[0]].read().shape[0]
        groups.append(group)
    return inputs, groups


def constant_inputs(
    model: "pymc.Model", reached: Iterable[Variable], observed_values: dict[Variable, str], inputs: dict[str, Input]
) -> dict[Variable, Variable]:
    """Add the model's plain arrays to ``inputs``; gives what replaces each of them in the graph."""
    roots = [v for v in reached if v.owner is None]
    data_variables = set(model.data_vars)
    rows = {np.shape(v.data)[0] for v in observed_values if isinstance(v, Constant) and not is_sparse(v) and v.ndim}
    rows |= {
        v.get_value(borrow=True).shape[0]
        for v in roots
        if isinstance(v, SharedVariable) and v in data_variables and v.type.ndim
    }
    rows |= {i.read().shape[0] for i in inputs.values() if i.variables[0].type.ndim}
    replacements: dict[Variable, Variable] = {}
    known: list[tuple[np.ndarray, Variable]] = []
    for variable in roots:
        if not isinstance(variable, Constant) or is_sparse(variable):
            continue
        if variable in observed_values:
            name, kind = observed_values[variable], "observed"
            dims = model.named_vars_to_dims.get(name)
        elif _worth_an_input(variable, rows):
            same = next((v for a, v in known if _is_same(a, variable.data)), None)
            if same is not None:  # an array used twice in the formulas is one input
                replacements[variable] = same
                continue
            name, kind = variable.name or "array", "data" if variable in data_variables else "constant"
            dims = model.named_vars_to_dims.get(variable.name)
        else:
            continue
        name = unique_name(name, inputs)
        stand_in = placeholder(variable, name)
        replacements[variable] = stand_in
        if kind != "observed":
            known.append((variable.data, stand_in))
        inputs[name] = Input(name, [stand_in], reader(variable), kind, tuple(dims or ()))
    return replacements


def _worth_an_input(constant: Variable, rows: set[int]) -> bool:
    if is_labelled(constant) or not isinstance(constant.type, TensorType) or constant.type.dtype == "bool":
        return False
    data = np.asarray(constant.data)
    if data.ndim == 0:
        return False
    has_rows = data.shape[0] in rows and data.shape[0] > 1 and data.size >= SMALL
    return has_rows or data.size >= LARGE


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
