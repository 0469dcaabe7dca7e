"""Repairs of PyTensor's conversion to JAX, in force only inside `repaired`.

PyTensor turns its graphs into JAX through tables of conversions. Some of them are wrong or incomplete for what we do,
which is to differentiate the converted function with JAX, to convert under any precision, and to draw. Every repair
below names the issue it waits for; its test shows the stock conversion failing, and fails in turn, saying so, once
PyTensor has fixed it. Found with PyTensor 3.3.8 and JAX 0.12.

The repairs answer only to the thread that is inside `repaired`: nobody else's use of PyTensor with JAX changes.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from posterion.frontends.pymc import quantiles
from posterion.frontends.pymc.foreign import (  # before anything of PyTensor's: it undoes what importing that does
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    Constant,
    FunctionGraph,
    RandomType,
    RandomVariable,
    dfs_rewriter,
    jax_funcify,
    node_rewriter,
    pt,
)

# isort: split
from pytensor.link.jax.dispatch import jax_typify
from pytensor.link.jax.dispatch.random import assert_size_argument_jax_compatible, jax_sample_fn
from pytensor.scalar import Softplus
from pytensor.scalar.basic import Neg, Switch
from pytensor.scalar.math import BetaInc, BetaIncInv, Erfcx, GammaIncCInv, GammaIncInv, Log1mexp
from pytensor.scan.op import Scan
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.pad import Pad
from pytensor.tensor.random import basic as ptr
from pytensor.tensor.type_other import NoneTypeT

from posterion.frontends.pymc.guards import Guarded, funcify_guarded, guard_branches
from posterion.frontends.pymc.overlay import Overlay
from posterion.frontends.pymc.samplers import SAMPLERS

# -------------------------------------------------------------------------------- scalar functions


def _softplus(op, **kwargs):
    """Replace nested ``where`` whose unselected exp overflows: the gradient is NaN for |x| > 88 (float32), 709.

    https://github.com/pymc-devs/pytensor/issues/2264. Every ``Bernoulli(logit_p=...)`` passes here.
    """
    return jax.nn.softplus


def _log1mexp(op, **kwargs):
    """Replace a ``where`` whose unselected log1p(-1) has an infinite derivative: NaN gradient for |x| < 1e-16 (1e-8).

    The same fault as in https://github.com/pymc-devs/pytensor/issues/2264; no issue of its own found.
    """

    def log1mexp(x):
        near = x > -0.6931472
        return jnp.where(
            near,
            jnp.log(-jnp.expm1(jnp.where(near, x, -0.5))),
            jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x))),
        )

    return log1mexp


def _erfcx(op, **kwargs):
    """Apply JAX's erfcx entry by entry: its second derivative fails for arrays (JAX 0.12), not for scalars.

    No issue found. Needed by every Hessian through a normal distribution function.
    """
    return jnp.vectorize(jax.scipy.special.erfcx)


def _on_common_floats(function: Callable) -> Callable:
    """``function`` of arrays of one shape and float type, for arguments of any."""

    def converted(*arguments):
        float_type = jnp.result_type(float, *arguments)
        return function(*jnp.broadcast_arrays(*(jnp.asarray(a, float_type) for a in arguments)))

    return converted


def _betainc(op, **kwargs):
    """Give ``betainc`` the derivatives in its shape parameters that JAX refuses.

    https://github.com/jax-ml/jax/issues/38610, https://github.com/jax-ml/jax/issues/15487. Needed by the distribution
    functions of Beta, StudentT and the binomials, that is by ``Censored`` and ``Truncated``.
    """
    return _on_common_floats(quantiles.betainc)


def _quantile(function: Callable) -> Callable:
    """Inverses for which stock asks for a nightly TensorFlow Probability. No issue found.

    https://github.com/jax-ml/jax/issues/2399 asks JAX for betaincinv.
    """
    return lambda op, **kwargs: _on_common_floats(function)


# -------------------------------------------------------------------------------- constants and arrays


def _constant(data, dtype=None, **kwargs):
    """Keep the type of 0-d floats, and keep boolean arrays concrete. No issue found for either.

    Stock turns a 0-d array into a Python number, which JAX types *weakly*: ``Alloc(0.0 as float64)`` meeting a float32
    array then computes in float32 although PyTensor's graph says float64 (seen in LKJCholeskyCov: errors of 1e-7).
    NumPy scalars carry their type and stay concrete. Integers stay Python numbers: they are used as shapes and powers.

    Boolean arrays are masks, whose values fix shapes. As ``jax.numpy`` arrays they become tracers if the graph is
    converted while JAX is tracing, and indexing then fails.
    """
    if data.ndim == 0:
        return data[()] if data.dtype.kind == "f" else data.item()
    if data.dtype == np.bool_:
        return np.asarray(data)
    # Not jnp.array, which compiles a program for every new shape.
    return jax.device_put(np.asarray(data, dtype=jax.dtypes.canonicalize_dtype(dtype or data.dtype)))


def _pad(op, node, **kwargs):
    """Use the widths that the Op itself knows: under vectorisation stock passes ``jax.numpy.pad`` a tracer.

    No issue found for JAX (https://github.com/pymc-devs/pytensor/issues/2392 is its like for MLX).
    """
    stock = _STOCK_PAD(op, node=node, **kwargs)
    pad_width = getattr(op, "static_pad_width", None)  # since PyTensor 3.3.8
    if pad_width is None:
        return stock
    return lambda x, _, *rest: stock(x, pad_width, *rest)


_STOCK_PAD = jax_funcify.dispatch(Pad)


# -------------------------------------------------------------------------------- random variables


def _random_variable(op, node, **kwargs):
    """Convert a random variable with its sampler looked up now, its own dtype, and no side effect. No issue found.

    Stock looks the sampler up when JAX traces, which may be long after `repaired` was left; writes the new key into the
    caller's dictionary; and returns booleans for Bernoulli and floats for Multinomial where the graph says int64.
    """
    out = node.outputs[1]
    dtype, num_batch = out.type.dtype, op.batch_ndim(node)
    sampler = jax_sample_fn(op, node=node)
    static_size = out.type.shape[:num_batch]
    if None in static_size:
        size_parameter = op.size_param(node)
        if isinstance(size_parameter, Constant) and not isinstance(size_parameter.type, NoneTypeT):
            static_size = tuple(int(n) for n in size_parameter.data)
        else:
            assert_size_argument_jax_compatible(node)
            static_size = None

    def sample(rng, size, *parameters):
        next_key, key = jax.random.split(rng["jax_state"], 2)
        sample_dtype = jax.dtypes.canonicalize_dtype(dtype)
        draws = sampler(key, size if static_size is None else static_size, sample_dtype, *parameters)
        return rng | {"jax_state": next_key}, jnp.asarray(draws).astype(sample_dtype)

    return sample


def _rejection_loop(op, node, **kwargs):
    """Convert PyMC's rejection sampler of truncated counts, which is a ``while`` Scan over generators and last states.

    Stock converts no ``while`` Scan (https://github.com/pymc-devs/pytensor/issues/265). Only loops over
    random generators are converted here: JAX cannot differentiate ``while_loop`` backwards, so in a density they would
    fail later and less clearly. If PyMC's limit of steps is reached, where PyMC raises, floats come back as NaN and
    integers as the smallest there is.
    """
    info, num_states = op.info, op.info.n_untraced_sit_sot
    states = node.inputs[1 : 1 + num_states]
    draws = any(isinstance(state.type, RandomType) for state in states)
    if not (info.as_while and draws and len(node.outputs) == num_states and info.n_seqs == 0):
        return _STOCK_SCAN(op, node=node, **kwargs)
    inner = op.fgraph.unfreeze()
    dfs_rewriter(local_masked_set).rewrite(inner)
    step = jax_funcify(inner, **kwargs)

    def loop(num_steps, *inputs):
        initial, constants = list(inputs[:num_states]), inputs[num_states:]
        initial = [s if isinstance(s, dict) else jnp.asarray(s) for s in initial]

        def once(carry):
            count, _, states = carry
            *new, done = step(*states, *constants)
            kept = [n if isinstance(n, dict) else n.astype(s.dtype) for n, s in zip(new, states, strict=True)]
            return count + 1, jnp.asarray(done, bool), kept

        def unfinished(carry):
            return (carry[0] < num_steps) & ~carry[1]

        _, done, final = jax.lax.while_loop(unfinished, once, (0, jnp.array(False), initial))
        final = [s if isinstance(s, dict) else _invalid_unless(done, s) for s in final]
        return final if num_states > 1 else final[0]

    return loop


_STOCK_SCAN = jax_funcify.dispatch(Scan)


def _invalid_unless(valid, values):
    if values.dtype == bool:
        return values
    invalid = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else jnp.iinfo(values.dtype).min
    return jnp.where(valid, values, invalid)


@node_rewriter([AdvancedIncSubtensor])
def local_masked_set(fgraph, node):
    """Rewrite x[mask] = y[mask] to where(mask, y, x): the same values, without a shape that depends on the mask."""
    x, part, *index = node.inputs
    source = part.owner
    if not node.op.set_instead_of_inc or source is None or not isinstance(source.op, AdvancedSubtensor):
        return None
    if len(index) != 1 or index != source.inputs[1:] or index[0].type.dtype != "bool":
        return None
    if not index[0].type.ndim == x.type.ndim == source.inputs[0].type.ndim:
        return None
    return [pt.switch(index[0], source.inputs[0], x).astype(x.type.dtype)]


def _categorical(op, node):
    """Pass log-probabilities to ``jax.random.categorical``: stock passes logit(p), so that p is not what is drawn from.

    No issue found for PyTensor; the parameter's misleading name is https://github.com/jax-ml/jax/issues/2888.
    With p = (0.5, 0.3, 0.2) stock draws with (0.594, 0.257, 0.149).
    """

    def sample(key, size, dtype, p):
        p = jnp.asarray(p)
        shape = p.shape[:-1] if size is None else tuple(size)
        return jax.random.categorical(key, jnp.log(p), shape=shape)

    return sample


_OVERLAYS = (
    Overlay(
        jax_funcify,
        {
            Softplus: _softplus,
            Log1mexp: _log1mexp,
            Erfcx: _erfcx,
            BetaInc: _betainc,
            BetaIncInv: _quantile(quantiles.betaincinv),
            GammaIncInv: _quantile(quantiles.gammaincinv),
            GammaIncCInv: _quantile(quantiles.gammainccinv),
            Pad: _pad,
            RandomVariable: _random_variable,
            Scan: _rejection_loop,
            Guarded: funcify_guarded,
        },
    ),
    Overlay(jax_typify, {np.ndarray: _constant}),
    Overlay(jax_sample_fn, {**SAMPLERS, ptr.CategoricalRV: _categorical}),
)


@contextlib.contextmanager
def repaired() -> Iterator[None]:
    """Within, in this thread: PyTensor's conversion to JAX is repaired, and knows our samplers.

    Only the conversion (``jax_funcify``) has to run inside; the functions it returns may be traced and called anywhere.
    May be nested, and entered by several threads at once.
    """
    with contextlib.ExitStack() as stack:
        for overlay in _OVERLAYS:
            stack.enter_context(overlay.active())
        yield


# -------------------------------------------------------------------------------- rewrites


def _argument_of(variable, scalar_op: type):
    """The argument if ``variable`` is ``scalar_op`` elementwise of one argument, else None."""
    node = variable.owner
    if node is not None and isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, scalar_op):
        return node.inputs[0]
    return None


@node_rewriter([Elemwise])
def local_bernoulli_logit(fgraph, node):
    """Rewrite switch(y, -softplus(-l), -softplus(l)) to -softplus(switch(y, -l, l)).

    The log probability of a Bernoulli variable in one transcendental per row instead of two, with the same rounding.
    """
    if not isinstance(node.op.scalar_op, Switch):
        return None
    condition, *branches = node.inputs
    arguments = []
    for branch in branches:
        positive = _argument_of(branch, Neg)
        arguments.append(None if positive is None else _argument_of(positive, Softplus))
    if_true, if_false = arguments
    if if_true is None or if_false is None:
        return None
    if _argument_of(if_true, Neg) is not if_false and _argument_of(if_false, Neg) is not if_true:
        return None
    return [(-pt.softplus(pt.switch(condition, if_true, if_false))).astype(node.outputs[0].type.dtype)]


def rewrites(fgraph: FunctionGraph) -> None:
    """Apply our own rewrites to a graph, in place, after PyTensor's."""
    dfs_rewriter(local_bernoulli_logit).rewrite(fgraph)
    guard_branches(fgraph)
