"""Operations without a JAX version, called on the host.

A model may hold operations that exist only as Python or NumPy code: an author's own Op around a simulator, the spline
of ``pm.Interpolated``, the integrator of ``pm.ode``. Within `host_callbacks` their conversion is a call out of the
compiled program into the operation's own ``perform``, and for the gradient into the graph of its ``pullback`` (which
was called ``L_op``). Second derivatives, which the whitened start uses, are differences of gradients. Random variables
without a JAX sampler are drawn on the host likewise, from a NumPy generator seeded by the JAX key, so that the same key
gives the same draw.

What it costs: every evaluation leaves the compiled program, which takes some 50 microseconds plus the operation
itself; draws mapped over are called one after the other; and derivatives are first in reverse and then, for second
ones, in forward mode (``jax.grad`` and ``jax.hessian``, not ``jax.jvp``).
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from posterion.errors import UnsupportedModelError
from posterion.frontends.host_calls import call_on_host, difference
from posterion.frontends.pymc import foreign
from posterion.frontends.pymc.overlay import Overlay

# isort: split
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch import jax_funcify
from pytensor.link.jax.dispatch.random import jax_sample_fn
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.op import RandomVariable


def _static_shapes(op: Op, node: Apply) -> list[tuple[int, ...]]:
    """Shapes of the outputs, from their types or from the Op's own ``infer_shape``."""
    shapes = [output.type.shape for output in node.outputs]
    if any(None in shape for shape in shapes):
        inputs = [tuple(None if n is None else pt.constant(n) for n in i.type.shape) for i in node.inputs]
        with contextlib.suppress(Exception):  # whatever a user's infer_shape raises, the answer is: not known
            try:
                inferred = op.infer_shape(node, inputs)
            except TypeError:  # the signature before PyTensor 3.3
                inferred = op.infer_shape(None, node, inputs)
            shapes = [tuple(int(n.data if isinstance(n, Constant) else n) for n in shape) for shape in inferred]
    if any(None in shape for shape in shapes):
        raise UnsupportedModelError(
            f"{op} has no JAX version, and cannot be called on the host either because the shape of its result is not "
            f"known beforehand: its type says {shapes}. Let make_node return outputs with a static shape, for example "
            "pt.tensor(dtype=..., shape=(3,)), or give the Op an infer_shape method."
        )
    return shapes


class _HostFunction:
    """A PyTensor graph evaluated in NumPy, callable from compiled JAX code with results of known shapes."""

    def __init__(self, inputs: Sequence[Variable], outputs: Sequence[Variable], shapes: Sequence[tuple[int, ...]]):
        self._function = pytensor.function(
            list(inputs), list(outputs), mode=foreign.PYTHON_MODE, on_unused_input="ignore", allow_input_downcast=True
        )
        self._input_dtypes = [v.type.dtype for v in inputs]
        self._output_dtypes = [v.type.dtype for v in outputs]
        self._shapes = list(shapes)
        self._guard = threading.Lock()  # a PyTensor function keeps its arguments in itself while it runs

    def __call__(self, *arguments):
        results = [
            jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))
            for shape, dtype in zip(self._shapes, self._output_dtypes, strict=True)
        ]

        def on_host(*values):
            given = [v.astype(dtype) for v, dtype in zip(values, self._input_dtypes, strict=True)]
            with self._guard:
                return self._function(*given)

        return call_on_host(on_host, results, *arguments)


def _is_float(variable: Variable) -> bool:
    return str(getattr(variable.type, "dtype", "")).startswith("float")


def _gradient(node: Apply) -> Callable:
    """Cotangents of the float inputs, from values of all inputs and cotangents of the float outputs."""
    inputs, outputs = [i for i in node.inputs if _is_float(i)], [o for o in node.outputs if _is_float(o)]
    shapes = [variable.type.shape for variable in inputs]
    if any(None in shape for shape in shapes):
        raise NotImplementedError(f"the shapes of its inputs are not known: {shapes}")
    cotangents = [output.type() for output in outputs]
    known = dict(zip(outputs, cotangents, strict=True))
    results = pytensor.grad(None, inputs, known_grads=known, disconnected_inputs="ignore", return_disconnected="zero")
    return _linear_in_cotangents(_HostFunction([*node.inputs, *cotangents], results, shapes))


def _by_differences(function: Callable) -> Callable:
    """The function with derivatives in forward mode."""

    @jax.custom_jvp
    def call(*arguments):
        return tuple(function(*arguments))

    @call.defjvp
    def _(primals, tangents):
        return call(*primals), tuple(difference(call, primals, tangents))

    return call


def _linear_in_cotangents(function: Callable) -> Callable:
    """A gradient ``(arguments, cotangents) -> cotangents`` with derivatives in forward mode."""

    @jax.custom_jvp
    def call(arguments, cotangents):
        return tuple(function(*arguments, *cotangents))

    @call.defjvp
    def _(primals, tangents):
        (arguments, cotangents), (direction, changes) = primals, tangents
        curved = difference(lambda *arguments: call(arguments, cotangents), arguments, direction)
        return call(*primals), tuple(map(jnp.add, curved, call(arguments, changes)))

    return call


def on_host(op: Op, node: Apply, **kwargs) -> Callable:
    """Convert an Op to a call of its own ``perform``, with its ``pullback`` for the gradient.

    Raises
    ------
    UnsupportedModelError
        If the shape of a result is not known beforehand; when differentiated, if the Op has no usable ``pullback``.
    """
    with foreign.graph_lock:
        shapes = _static_shapes(op, node)
        copy = node.clone_with_new_inputs([i.type() for i in node.inputs])
        forward = _by_differences(_HostFunction(copy.inputs, copy.outputs, shapes))
        try:
            backward, obstacle = _gradient(copy), None
        except Exception as error:  # whatever a user's pullback raises matters only if a gradient is asked for
            backward, obstacle = None, error

    @jax.custom_vjp
    def call(*arguments):
        return forward(*arguments)

    def call_forward(*arguments):
        return forward(*arguments), arguments

    def call_backward(arguments, cotangents):
        if backward is None:
            raise UnsupportedModelError(
                f"{op} has no JAX version, and no gradient that could be called on the host ({obstacle}). "
                "Give it a pullback method, or write it in JAX with pytensor.wrap_jax."
            ) from obstacle
        given = [c for c, o in zip(cotangents, copy.outputs, strict=True) if _is_float(o)]
        found = iter(backward(arguments, given))
        return tuple(
            next(found) if _is_float(v) else np.zeros(jnp.shape(a), jax.dtypes.float0)
            for v, a in zip(copy.inputs, arguments, strict=True)
        )

    call.defvjp(call_forward, call_backward)

    def converted(*arguments):
        results = call(*(jnp.asarray(a) for a in arguments))
        return results[0] if len(results) == 1 else results

    return converted


def _elemwise(op: Elemwise, node: Apply, **kwargs) -> Callable:
    """Elementwise functions are looked up by their scalar function, which may be the one without a JAX version."""
    try:
        return _STOCK_ELEMWISE(op, node=node, **kwargs)
    except NotImplementedError:
        return on_host(op, node)


_STOCK_ELEMWISE = jax_funcify.dispatch(Elemwise)


def _draw_on_host(op: RandomVariable, node: Apply) -> Callable:
    """Draw with the random variable's own NumPy code."""
    shape = node.outputs[1].type.shape
    if None in shape:
        raise NotImplementedError(
            f"No JAX implementation for the distribution {op}, and the shape of its draws is open"
        )

    def sample(key, size, dtype, *parameters):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)

        def draw(bits, *values):
            dtypes = [p.type.dtype for p in op.dist_params(node)]
            given = [v.astype(t) for v, t in zip(values, dtypes, strict=True)]
            drawn = op.rng_fn(np.random.default_rng(bits), *given, None if size is None else tuple(size))
            return [drawn]

        [drawn] = call_on_host(
            draw, [jax.ShapeDtypeStruct(shape, dtype)], jax.random.key_data(key) if typed else key, *parameters
        )
        return drawn

    return sample


_OVERLAYS = (
    Overlay(jax_funcify, {Op: on_host, Elemwise: _elemwise}),
    Overlay(jax_sample_fn, {RandomVariable: _draw_on_host}),
)


@contextlib.contextmanager
def host_callbacks() -> Iterator[None]:
    """Within, in this thread: operations and random variables without a JAX version are called on the host.

    Only the conversion (``jax_funcify``) has to run inside. Goes together with `dispatch.repaired`, in either order.
    """
    with contextlib.ExitStack() as stack:
        for overlay in _OVERLAYS:
            stack.enter_context(overlay.active())
        yield
