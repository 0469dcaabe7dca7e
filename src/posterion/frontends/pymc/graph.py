"""A PyMC model's graph opened up: total_size and mini-batches taken out, arrays as inputs, the log density in terms.

`open_model` does everything that does not depend on shapes, once per model. Nothing is compiled and the model is not
changed. What PyMC itself would do with ``total_size`` (scale the term) is left to the engine.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc.convert import seems_convertible
from posterion.frontends.pymc.foreign import (
    PYTHON_MODE,
    Constant,
    MinibatchRandomVariable,
    RandomType,
    SharedVariable,
    TensorType,
    Variable,
    change_dist_size,
    graph_work,
    is_labelled,
    is_sparse,
    pymc,
    replace_rvs_by_values,
    transformed_conditional_logp,
)
from posterion.frontends.pymc.inputs import (
    Input,
    MinibatchGroup,
    constant_inputs,
    minibatch_inputs,
    reader,
    unique_name,
)
from posterion.frontends.pymc.refusals import check_model, first_line
from posterion.frontends.pymc.substitute import ancestors, substitute


@dataclass
class ModelGraph:
    """The opened graph; all variables below belong to it, and their roots are inputs, dim lengths or generators.

    Parameters
    ----------
    free, observed
        Random variables by name, as they are in the generative graph.
    values
        Name of a free variable to the variable of its unconstrained value.
    observed_values
        Name of an observed variable to the variable of its value.
    transforms
        Name of a free variable to its transform or None.
    priors, likelihoods, potentials
        Elementwise terms of the log density; log |d theta / d z| is in the priors.
    constrained
        Free variables on their own scale in terms of ``values``.
    derived
        Deterministics in terms of ``values``.
    moments
        Mean and variance of observed variables in terms of the free *random* variables, where closed form.
    inputs
        Arrays by name.
    minibatches
        What pm.Minibatch cut.
    total_size
        Name of an observed variable to the rows it stands for, per axis.
    dim_lengths
        Shared variable that holds the length of a dim, to the dim's name.
    aliases
        A second value variable for an array that two variables observe, to the first.
    dims
        Name to dims, for everything that has them.
    """

    free: dict[str, Variable]
    observed: dict[str, Variable]
    values: dict[str, Variable]
    observed_values: dict[str, Variable]
    transforms: dict
    priors: dict[str, Variable]
    likelihoods: dict[str, Variable]
    potentials: dict[str, Variable]
    constrained: dict[str, Variable]
    derived: dict[str, Variable]
    inputs: dict[str, Input]
    minibatches: list[MinibatchGroup]
    total_size: dict[str, list[int | None]]
    dim_lengths: dict[Variable, str]
    aliases: dict[Variable, Variable]
    dims: dict[str, tuple[str | None, ...]]
    moments: dict[str, tuple[Variable, Variable]] = field(default_factory=dict)


def open_model(model: "pymc.Model", *, plain_arrays: bool) -> ModelGraph:
    """Open a model's graph.

    Parameters
    ----------
    model
        The model.
    plain_arrays
        Whether arrays that are constants in the graph become inputs. Some operations insist on constants.

    Raises
    ------
    UnsupportedModelError
        If the model has something that cannot be taken over.
    """
    check_model(model)
    with graph_work():
        try:
            return _open(model, plain_arrays=plain_arrays)
        except UnsupportedModelError:
            raise
        except Exception as error:  # whatever a distribution's log density may raise
            raise UnsupportedModelError(
                f"PyMC cannot write down the log density of this model: {first_line(error)}"
            ) from error


def _open(model: "pymc.Model", *, plain_arrays: bool) -> ModelGraph:
    core, total_size = _without_total_size(model)
    free = {v.name: core[v] for v in model.free_RVs}
    observed = {v.name: core[v] for v in model.observed_RVs}
    values = {v.name: model.rvs_to_values[v] for v in model.free_RVs}
    observed_values = {v.name: model.rvs_to_values[v] for v in model.observed_RVs}
    transforms = {v.name: model.rvs_to_transforms[v] for v in model.free_RVs}
    deterministics, potentials = list(model.deterministics), list(model.potentials)

    everything = [*free.values(), *observed.values(), *observed_values.values(), *deterministics, *potentials]
    value_names: dict[Variable, str] = {}
    for name, value in observed_values.items():
        value_names.setdefault(value, name)
    inputs, groups = minibatch_inputs(model, ancestors(everything), value_names)
    replacements = {o: inputs[n].variables[0] for g in groups for n, o in zip(g.names, g.outputs, strict=True)}
    _check_groups(groups, observed, observed_values)
    if plain_arrays:
        reached = ancestors(everything, stop=set(replacements))
        replacements |= constant_inputs(model, reached, value_names, inputs)

    opened = substitute(observed_values.values(), replacements)
    resize = {
        core_variable: _sizer(opened[observed_values[name]])
        for name, core_variable in observed.items()
        if opened[observed_values[name]] is not observed_values[name]
    }
    opened = substitute(everything, opened, resize)
    free = {name: opened[v] for name, v in free.items()}
    observed = {name: opened[v] for name, v in observed.items()}
    aliases: dict[Variable, Variable] = {}
    seen: dict[Variable, None] = {}
    for name, value in list(observed_values.items()):
        new = opened[value]
        if isinstance(new, Constant) and not is_sparse(new):  # arrays were not made inputs: this one must be
            stand_in = new.type(name=name)
            inputs[name] = Input(
                name, [stand_in], reader(new), "observed", tuple(model.named_vars_to_dims.get(name) or ())
            )
            new = stand_in
        elif new in seen:  # one pm.Data observed by two variables, which PyMC itself refuses
            alias = new.type(name=value.name)
            aliases[alias] = new
            new = alias
        seen[new] = None
        observed_values[name] = new

    random = {**free, **observed}
    to_values = {v: values[name] for name, v in free.items()} | {v: observed_values[n] for n, v in observed.items()}
    to_transforms = {v: transforms.get(name) for name, v in random.items()}
    terms = transformed_conditional_logp(
        list(random.values()), rvs_to_values=to_values, rvs_to_transforms=to_transforms
    )
    by_name = dict(zip(random, terms, strict=True))
    by_values = replace_rvs_by_values(
        [*free.values(), *(opened[d] for d in deterministics), *(opened[p] for p in potentials)],
        rvs_to_values=to_values,
        rvs_to_transforms=to_transforms,
    )
    num_free, num_derived = len(free), len(deterministics)
    graph = ModelGraph(
        free=free,
        observed=observed,
        values=values,
        observed_values=observed_values,
        transforms=transforms,
        priors={name: by_name[name] for name in free},
        likelihoods={name: by_name[name] for name in observed},
        potentials=dict(zip((p.name for p in potentials), by_values[num_free + num_derived :], strict=True)),
        constrained=dict(zip(free, by_values[:num_free], strict=True)),
        derived=dict(zip((d.name for d in deterministics), by_values[num_free:][:num_derived], strict=True)),
        inputs=inputs,
        minibatches=groups,
        total_size=total_size,
        dim_lengths={v: d for d, v in model.dim_lengths.items() if isinstance(v, SharedVariable)},
        aliases=aliases,
        dims={k: tuple(v) for k, v in model.named_vars_to_dims.items()},
    )
    _add_shared(model, graph)
    _mark_observed(graph)
    written = {v.name: k for k, v in enumerate(model.data_vars)}
    ordered = sorted(inputs.values(), key=lambda i: (i.only_observed, written.get(i.name, len(written))))
    graph.inputs = {i.name: i for i in ordered}
    graph.moments = _closed_moments(graph)
    return graph


def _closed_moments(graph: ModelGraph) -> dict[str, tuple[Variable, Variable]]:
    from posterion.frontends.pymc.moments import mean_and_variance

    found = {}
    for name, variable in graph.observed.items():
        both = None if is_labelled(variable) else mean_and_variance(variable)
        if both is not None and seems_convertible(both):
            found[name] = both
    return found


def _without_total_size(model: "pymc.Model") -> tuple[dict[Variable, Variable], dict[str, list[int | None]]]:
    core, total_size = {}, {}
    for variable in model.basic_RVs:
        if variable.owner is not None and isinstance(variable.owner.op, MinibatchRandomVariable):
            core[variable], *sizes = variable.owner.inputs
            total_size[variable.name] = [_total(size) for size in sizes]
        else:
            core[variable] = variable
    return core, total_size


def _total(size: Variable) -> int | None:
    if not isinstance(size.type, TensorType):
        return None
    return int(size.data if isinstance(size, Constant) else size.eval(mode=PYTHON_MODE))


def _sizer(value: Variable) -> Callable[[Variable], Variable]:
    """An observed variable made as large as what is passed as its value: the model fixed it to its array or batch."""

    def resize(variable: Variable) -> Variable:
        support = getattr(variable.owner.op, "ndim_supp", None) if variable.owner is not None else None
        if support is None or variable.ndim - support < 1:
            return variable
        size = [value.shape[axis] for axis in range(variable.ndim - support)]
        try:
            return change_dist_size(variable, new_size=size, expand=False)
        except NotImplementedError:
            return variable

    return resize


def _check_groups(groups: list[MinibatchGroup], observed: dict[str, Variable], values: dict[str, Variable]) -> None:
    if len(groups) < 2:
        return
    for name, variable in observed.items():
        reached = ancestors([variable, values[name]])
        mixed = [g for g in groups if any(o in reached for o in g.outputs)]
        if len(mixed) > 1:
            arrays = ", ".join(n for g in mixed for n in g.names)
            size = mixed[0].batch_size
            raise UnsupportedModelError(
                f"The likelihood of {name!r} is fed by {len(mixed)} separate calls of pm.Minibatch ({arrays}). "
                "Each call draws rows of its own, so inputs and outputs would not belong together. "
                f"Write one call for all arrays: x, y = pm.Minibatch(X, Y, batch_size={size})"
            )
    fed = [
        f"{', '.join(map(repr, _fed_by(g, observed, values)))} by {g.batch_size} of {g.num_rows} rows" for g in groups
    ]
    raise UnsupportedModelError(
        f"The model has {len(groups)} separate mini-batches ({'; '.join(fed)}), and a step draws one set of rows. If "
        "they are the same rows, give all arrays to one pm.Minibatch call. If they are different data, give them as "
        "pm.Data with dims of their own and say which rows to cut, po.fit(model, batch_size=..., "
        "batch_over=...): the other likelihood is computed on all its rows in every step."
    )


def _fed_by(group: MinibatchGroup, observed: dict[str, Variable], values: dict[str, Variable]) -> list[str]:
    """The observed variables that a mini-batch reaches; its arrays if it reaches none."""
    names = [
        name
        for name, variable in observed.items()
        if any(output in ancestors([variable, values[name]]) for output in group.outputs)
    ]
    return names or group.names


def _add_shared(model: "pymc.Model", graph: ModelGraph) -> None:
    """Shared variables, registered (pm.Data) or not, are inputs too."""
    data_variables = set(model.data_vars)
    known = {v for i in graph.inputs.values() for v in i.variables} | set(graph.aliases) | set(graph.values.values())
    terms = [*graph.priors.values(), *graph.likelihoods.values(), *graph.potentials.values()]
    outputs = [*terms, *graph.constrained.values(), *graph.derived.values(), *graph.observed.values()]
    values = list(graph.observed_values.values())
    valued = ancestors([*outputs, *values], shapes_too=False)
    followed = {i.name: i for i in graph.inputs.values() if i.kind == "minibatch"}
    for variable in ancestors([*outputs, *values]):
        if variable.owner is not None or variable in known or variable in graph.dim_lengths:
            continue
        if isinstance(variable, Constant) or isinstance(variable.type, RandomType) or is_sparse(variable):
            continue
        if not isinstance(variable, SharedVariable):
            raise UnsupportedModelError(
                f"The model depends on {variable}, a symbolic variable without a value. Use pm.Data or an array."
            )
        if variable not in valued and variable.name in followed:
            # Only its shape is used, for the length of a dim: that follows the rows that are passed in its place.
            followed[variable.name].variables.append(variable)
            continue
        kind = "data" if variable in data_variables else "shared"
        name = unique_name(variable.name or "shared", graph.inputs)
        dims = graph.dims.get(variable.name, ()) if kind == "data" else ()
        graph.inputs[name] = Input(name, [variable], reader(variable), kind, dims)


def _mark_observed(graph: ModelGraph) -> None:
    """An input is only observed if predictions do not use its values."""
    generative = ancestors([*graph.observed.values(), *graph.free.values()], shapes_too=False)
    values = ancestors(graph.observed_values.values())
    for i in graph.inputs.values():
        is_value = any(v in values for v in i.variables)
        i.only_observed = is_value and not any(v in generative for v in i.variables)
