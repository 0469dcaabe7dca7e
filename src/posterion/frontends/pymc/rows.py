"""Where the rows of a model are, found by asking what changes shape when there is one row more.

A group of rows is a set of input axes that must have the same length, together with everything whose shape follows
them: likelihood terms, potentials, deterministics, and free variables with one entry per row. Dims say which axes
belong together; arrays without dims belong to the rows whose number they share. Nothing is believed until the graph,
specialised on one row more, agrees, and before rows are cut for batches `check_rows` compares numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from posterion.errors import DataError, UnsupportedModelError
from posterion.frontends.pymc.convert import drop_checks
from posterion.frontends.pymc.foreign import PYTHON_MODE, Variable, as_plain, as_type_of, graph_work, pt, pytensor
from posterion.frontends.pymc.graph import ModelGraph
from posterion.frontends.pymc.inputs import placeholder
from posterion.frontends.pymc.refusals import first_line
from posterion.frontends.pymc.specialise import Shapes, Specialisation
from posterion.frontends.pymc.substitute import ancestors, substitute

Evaluate = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""A function of unconstrained values and data that gives the terms of the log density."""

MAX_CHECKED_ROWS = 2_000
"""Rows the numerical check looks at: enough to meet any group of rows, evaluated in milliseconds."""


@dataclass(frozen=True)
class RowGroup:
    """Input axes that must have the same length, and what follows them.

    Parameters
    ----------
    num_rows
        Length in the data at hand.
    dims
        Names of these axes.
    axes
        (input, axis) of every input that holds these rows.
    terms
        (name, axis) of the likelihoods and potentials with one entry per row.
    derived
        Deterministics with these rows on their first axis.
    local
        Free variables with one entry per row.
    obstacle
        Why the graph cannot take another number of rows, or None.
    """

    num_rows: int
    dims: frozenset[str] = frozenset()
    axes: tuple[tuple[str, int], ...] = ()
    terms: tuple[tuple[str, int], ...] = ()
    derived: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    obstacle: str | None = None

    @property
    def names(self) -> set[str]:
        """What may be given as ``over`` to mean these rows."""
        return set(self.dims) | {name for name, _ in self.terms}


def row_axes(home: Specialisation) -> dict[str, int]:
    """The axis of each observed variable's term along which its rows run; variables without one are left out.

    The first axis, unless dims say that it is one of the parameters' (a dim that a free variable has as well, while
    another axis' dim no free variable has).
    """
    graph = home.graph
    parameter_dims = {d for name in graph.free for d in graph.dims.get(name, ()) if d is not None}
    axes = {}
    for name in graph.likelihoods:
        ndim = len(home.term_shapes[name])
        if ndim == 0:
            continue
        dims = graph.dims.get(name, ())[:ndim]
        axes[name] = next((k for k, d in enumerate(dims) if d is not None and d not in parameter_dims), 0)
    return axes


def find_groups(home: Specialisation, frozen: Mapping[str, np.ndarray]) -> tuple[RowGroup, ...]:
    """All groups of rows of a model, with what follows them.

    Parameters
    ----------
    home
        The graph for the model's own data.
    frozen
        Inputs whose values fix shapes, with these values.
    """
    graph, axes = home.graph, row_axes(home)
    seeds: dict[tuple, RowGroup] = {}
    for name, axis in axes.items():
        num_rows = home.term_shapes[name][axis]
        dims = graph.dims.get(name, ())
        dim = dims[axis] if axis < len(dims) else None
        if num_rows is not None:
            seeds.setdefault((dim, None if dim else num_rows), RowGroup(num_rows, frozenset({dim} if dim else ())))
    for name in graph.potentials:
        shape = home.term_shapes[name]
        if shape and shape[0] and shape[0] > 1 and all(seed.num_rows != shape[0] for seed in seeds.values()):
            seeds.setdefault((None, shape[0]), RowGroup(shape[0]))
    named = [seed for seed in seeds.values() if seed.dims]
    groups = []
    for seed in seeds.values():
        if not seed.dims and sum(other.num_rows == seed.num_rows for other in named) == 1:
            continue  # arrays without dims that have as many rows as one dim has: the same rows
        group = _probe(home, frozen, axes, seed)
        if group is not None:
            groups.append(group)
    return tuple(groups)


def _probe(home: Specialisation, frozen: Mapping, axes: dict[str, int], seed: RowGroup) -> RowGroup | None:
    """The group that grows from a dim or a number of rows, or None if no term follows it."""
    graph, shapes, obstacle = home.graph, home.shapes, None
    for dims in (seed.dims, _dims_of_length(graph, shapes, seed.num_rows)):
        cut = _axes_to_cut(graph, shapes, frozen, replace(seed, dims=dims))
        if not cut:
            continue
        grown = {name: list(shape) for name, shape in shapes.items()}
        for name, axis in cut:
            grown[name][axis] += 1
        try:
            longer = Specialisation(graph, {name: tuple(shape) for name, shape in grown.items()}, frozen)
            if all(None not in shape for shape in longer.value_shapes.values()):
                longer.bind_values(longer.value_shapes)  # type: ignore[arg-type]
            followers = _followers(home, longer, axes, replace(seed, dims=dims, axes=cut))
        except (DataError, TypeError, ValueError, AssertionError, IndexError) as error:
            obstacle = obstacle or first_line(error)
            continue
        return followers
    terms = tuple((name, axis) for name, axis in axes.items() if home.term_shapes[name][axis] == seed.num_rows)
    cut = _axes_to_cut(graph, shapes, frozen, seed)
    return replace(seed, axes=cut, terms=terms, obstacle=obstacle or "no input holds these rows") if terms else None


def _dims_of_length(graph: ModelGraph, shapes: Shapes, length: int) -> frozenset[str]:
    """All dims of this length on the first axis of an input: the same rows under several names."""
    return frozenset(
        i.dims[0] for name, i in graph.inputs.items() if i.dims and i.dims[0] and shapes[name][0] == length
    )


def _axes_to_cut(graph: ModelGraph, shapes: Shapes, frozen: Mapping, group: RowGroup) -> tuple[tuple[str, int], ...]:
    cut = []
    for name, i in graph.inputs.items():
        if name in frozen or not shapes[name]:
            continue
        if any(i.dims):
            cut += [(name, axis) for axis, dim in enumerate(i.dims) if dim in group.dims][:1]
        elif shapes[name][0] == group.num_rows and (group.num_rows > 1 or i.kind in ("observed", "minibatch")):
            cut.append((name, 0))
    return tuple(cut)


def _grew(before: tuple, after: tuple) -> int | None:
    """The axis along which a shape is one longer, or None."""
    if len(before) != len(after) or before == after:
        return None
    different = [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    (axis, *more) = different
    if more or before[axis] is None or after[axis] is None or after[axis] - before[axis] != 1:
        return None
    return axis


def _followers(home: Specialisation, longer: Specialisation, axes: dict[str, int], group: RowGroup) -> RowGroup | None:
    graph, terms = home.graph, []
    for name, shape in home.term_shapes.items():
        axis = _grew(shape, longer.term_shapes[name])
        if axis is not None and (name not in axes or axes[name] == axis):
            terms.append((name, axis))
    if not terms:
        return None
    local = tuple(name for name, shape in home.value_shapes.items() if longer.value_shapes[name] != shape)
    observed = set(graph.observed_values.values())
    tainted = observed | {graph.values[name] for name in local}
    derived = tuple(
        name
        for name, shape in home.derived_shapes.items()
        if _grew(shape, longer.derived_shapes[name]) == 0
        and not any(v in tainted for v in ancestors([graph.derived[name]]))
    )
    return replace(group, terms=tuple(terms), derived=derived, local=local)


def check_rows(
    graph: ModelGraph,
    group: RowGroup,
    data: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    otherwise: Evaluate,
) -> None:
    """Compare the terms of some rows, evaluated alone, with the same rows' terms among the others.

    Parameters
    ----------
    graph
        The opened model.
    group
        The rows to cut.
    data
        All inputs.
    values
        Unconstrained values of the free variables, in general position.
    otherwise
        Evaluates the terms where NumPy cannot: some of PyTensor's operations only work once optimised.

    Raises
    ------
    UnsupportedModelError
        If a row's term depends on other rows, or anything else changes with the rows.
    """
    generator = np.random.default_rng(0)
    whole = np.arange(group.num_rows)
    if group.num_rows > MAX_CHECKED_ROWS:
        whole = np.sort(generator.choice(whole, MAX_CHECKED_ROWS, replace=False))
    some = np.sort(generator.choice(len(whole), max(1, len(whole) // 2), replace=False))
    over = ", ".join(sorted(group.dims)) or f"the {group.num_rows} rows"
    try:
        try:
            evaluate = _evaluator(graph)
            full = evaluate(values, _take(data, group, whole))
        except Exception:  # whatever an operation's NumPy version may raise
            evaluate = otherwise
            full = evaluate(values, _take(data, group, whole))
        part = evaluate(values, _take(data, group, whole[some]))
    except Exception as error:
        reason = first_line(error)
        raise UnsupportedModelError(
            f"The model cannot be evaluated on {len(some)} of the {group.num_rows} rows, so it cannot be fitted in "
            f"batches: {reason}. The usual cause is an array with one entry per row that is not an input (a mask, an "
            "index made with NumPy): make it a pm.Data with the rows' dim. Or fit without batch_size."
        ) from error
    follows = dict(group.terms)
    for name, term in full.items():
        kind, _, variable = name.partition(" ")
        if kind != "prior" and variable in follows:
            axis = follows[variable]
            expected = np.take(term, some, axis=axis)
            if expected.shape != part[name].shape or not _close(expected, part[name]):
                raise UnsupportedModelError(
                    f"The rows of {variable!r} depend on each other: some rows of {over} alone have other log "
                    "densities than among the others (a mean, scaling, sort or cumulative sum over the rows inside the "
                    "model?). Compute it before the model, or fit without batch_size."
                )
        elif term.shape != part[name].shape or not _close(term, part[name]):
            raise UnsupportedModelError(_changed(kind, variable, over))


def _changed(kind: str, variable: str, over: str) -> str:
    if kind == "prior":
        return (
            f"The prior of {variable!r} depends on the rows of {over}: batches would change it. Fit without batch_size."
        )
    if kind == "potential":
        return (
            f"The potential {variable!r} sums over the rows of {over} itself, so a batch's share of it is not known. "
            "Give pm.Potential the terms elementwise (no .sum()), or fit without batch_size."
        )
    return (
        f"The likelihood of {variable!r} does not separate over the rows of {over} (a Gaussian process, a time series, "
        "a marginalised shared latent?), so batches would be wrong. Fit without batch_size."
    )


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True))


def _take(data: Mapping[str, np.ndarray], group: RowGroup, rows: np.ndarray) -> dict[str, np.ndarray]:
    axes = dict(group.axes)
    return {name: np.take(a, rows, axis=axes[name]) if name in axes else a for name, a in data.items()}


def _evaluator(graph: ModelGraph) -> Evaluate:
    """The model's terms in NumPy, for inputs of any shapes."""
    with graph_work():
        stand_ins = {name: _open_root(i.variables[0], name) for name, i in graph.inputs.items()}
        roots: dict[Variable, Variable] = {}
        for name, i in graph.inputs.items():
            roots |= {v: as_type_of(as_plain(stand_ins[name]), v) for v in i.variables}
        roots |= {alias: roots[variable] for alias, variable in graph.aliases.items()}
        lengths = {dim: pt.lscalar(dim) for dim in graph.dim_lengths.values()}
        roots |= {variable: lengths[dim] for variable, dim in graph.dim_lengths.items()}
        terms = (
            {f"prior {n}": v for n, v in graph.priors.items()}
            | {f"likelihood {n}": v for n, v in graph.likelihoods.items()}
            | {f"potential {n}": v for n, v in graph.potentials.items()}
        )
        rebuilt = substitute(terms.values(), roots)
        outputs = drop_checks([as_plain(rebuilt[v]) for v in terms.values()])
        value_inputs = list(graph.values.values())
        function = pytensor.function(
            [*value_inputs, *stand_ins.values(), *lengths.values()],
            outputs,
            mode=PYTHON_MODE,
            on_unused_input="ignore",
        )
    current = {dim: int(variable.get_value()) for variable, dim in graph.dim_lengths.items()}

    def evaluate(values: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays, seen = [], dict(current)
        for name, i in graph.inputs.items():
            arrays.append(np.asarray(data[name]).astype(i.dtype))
            seen |= {d: n for d, n in zip(i.dims, arrays[-1].shape, strict=False) if d is not None}
        points = [np.asarray(values[name], v.type.dtype) for name, v in graph.values.items()]
        with np.errstate(all="ignore"):
            results = function(*points, *arrays, *(seen[dim] for dim in lengths))
        return dict(zip(terms, map(np.asarray, results), strict=True))

    return evaluate


def _open_root(variable: Variable, name: str) -> Variable:
    return placeholder(as_plain(variable), name)
