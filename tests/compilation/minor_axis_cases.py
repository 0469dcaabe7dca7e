"""Functions on which the batch-minor pass must change nothing but the order of axes.

A case is a scalar function of a flat parameter vector and a dict of data, as a log density is, with the fewest
products that must be turned in it and the primitives that may fall back to natural order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NUM_ROWS = 48
FEATURES = 3
WIDTH = 5
CLASSES = 4


@dataclass(frozen=True)
class Case:
    """One function with what the pass must do to it."""

    function: Callable
    flips: int = 1
    fallbacks: frozenset[str] = frozenset()
    has_forward_mode: bool = True


def data(dtype: str, num_rows: int = NUM_ROWS) -> dict[str, np.ndarray]:
    """Inputs, 0/1 labels, class labels, counts and group labels."""
    rng = np.random.default_rng(20240229)
    return {
        "x": rng.normal(size=(num_rows, FEATURES)).astype(dtype),
        "sequence": rng.normal(size=(num_rows, 4, FEATURES)).astype(dtype),
        "y": rng.normal(size=num_rows).astype(dtype),
        "binary": rng.integers(0, 2, num_rows),
        "label": rng.integers(0, CLASSES, num_rows),
        "group": rng.integers(0, 6, num_rows),
        "mask": rng.random(num_rows) < 0.8,
    }


def parameters(dtype: str, seed: int = 1) -> np.ndarray:
    """A flat vector that is long enough for every case."""
    return (0.5 * np.random.default_rng(seed).normal(size=160)).astype(dtype)


class Cut:
    """Takes weights of given shapes from a flat vector, one after the other."""

    def __init__(self, z):
        self.z, self.start = z, 0

    def __call__(self, *shape):
        size = int(np.prod(shape))
        piece = self.z[self.start : self.start + size].reshape(shape)
        self.start += size
        return piece


def hidden(cut, data, first=jnp.tanh, second=jnp.tanh):
    """Two hidden layers with biases: (rows, WIDTH)."""
    h = first(data["x"] @ cut(FEATURES, WIDTH) + cut(WIDTH))
    return second(h @ cut(WIDTH, WIDTH) + cut(WIDTH))


def bernoulli(logits, data):
    return jnp.sum(data["binary"] * logits - jax.nn.softplus(logits))


def network(first, second):
    """A 3-5-5-1 network with Bernoulli likelihood."""

    def log_density(z, data):
        cut = Cut(z)
        logits = (hidden(cut, data, first, second) @ cut(WIDTH, 1))[:, 0]
        return bernoulli(logits, data) - 0.5 * jnp.sum(z**2)

    return log_density


ACTIVATIONS = {
    "tanh": (jnp.tanh, jnp.tanh),
    "relu_tanh": (jax.nn.relu, jnp.tanh),
    "gelu": (jax.nn.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
    "softplus_sigmoid": (jax.nn.softplus, jax.nn.sigmoid),
    "silu_log_sigmoid": (jax.nn.silu, jax.nn.log_sigmoid),
    "elu_selu": (jax.nn.elu, jax.nn.selu),
    "mish_leaky_relu": (jax.nn.mish, jax.nn.leaky_relu),
    "sine_soft_sign": (jnp.sin, jax.nn.soft_sign),
    "celu_relu6": (jax.nn.celu, jax.nn.relu6),
    "sinc_gaussian": (jnp.sinc, lambda x: jnp.exp(-(x**2))),
}


def logits_of(cut, data):
    return hidden(cut, data) @ cut(WIDTH, CLASSES)


def softmax_pick(z, data):
    probabilities = jax.nn.softmax(logits_of(Cut(z), data))
    return jnp.sum(jnp.log(jnp.take_along_axis(probabilities, data["label"][:, None], axis=1)))


def index_pick(z, data):
    log_probabilities = jax.nn.log_softmax(logits_of(Cut(z), data))
    return jnp.sum(log_probabilities[jnp.arange(data["label"].shape[0]), data["label"]])


def one_hot_pick(z, data):
    log_probabilities = jax.nn.log_softmax(logits_of(Cut(z), data))
    return jnp.sum(log_probabilities * jax.nn.one_hot(data["label"], CLASSES))


def logsumexp_loss(z, data):
    logits = logits_of(Cut(z), data)
    picked = jnp.sum(jnp.where(jnp.arange(CLASSES) == data["label"][:, None], logits, 0), axis=1)
    return jnp.sum(picked - jax.scipy.special.logsumexp(logits, axis=1))


def mixture(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    log_weights, means = jax.nn.log_softmax(h @ cut(WIDTH, 3)), h @ cut(WIDTH, 3)
    components = -0.5 * (data["y"][:, None] - means) ** 2
    return jnp.sum(jax.scipy.special.logsumexp(log_weights + components, axis=-1))


def layer_norm(z, data):
    cut = Cut(z)
    h = data["x"] @ cut(FEATURES, WIDTH)
    h = (h - h.mean(axis=1, keepdims=True)) / jnp.sqrt(h.var(axis=1, keepdims=True) + 1e-3)
    return bernoulli((jnp.tanh(h * cut(WIDTH) + cut(WIDTH)) @ cut(WIDTH, 1)).squeeze(-1), data)


def batch_norm(z, data):
    cut = Cut(z)
    h = data["x"] @ cut(FEATURES, WIDTH)
    h = (h - h.mean(axis=0)) / jnp.sqrt(h.var(axis=0) + 1e-3)
    return bernoulli((jnp.tanh(h * cut(WIDTH) + cut(WIDTH)) @ cut(WIDTH, 1)).squeeze(-1), data)


def sorted_hidden(z, data):
    cut = Cut(z)
    h = jnp.sort(hidden(cut, data), axis=-1)
    return bernoulli((h @ cut(WIDTH, 1))[:, 0], data)


def ranked_rows(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    order = jnp.argsort(h, axis=0)
    return jnp.sum(order * lax.stop_gradient(h)) + jnp.sum(jnp.sort(h, axis=0)[::2] * cut(WIDTH))


def skip_connection(z, data):
    cut = Cut(z)
    h = jnp.concatenate([data["x"], hidden(cut, data)], axis=1)
    return bernoulli((h @ cut(FEATURES + WIDTH, 1))[:, 0], data)


def stacked_heads(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    heads = jnp.stack([(h @ cut(WIDTH, 2)) * scale for scale in (1.0, 0.5, 2.0)], axis=1)
    return bernoulli(jnp.tanh(heads).sum(axis=(1, 2)), data)


def checkpointed(z, data):
    cut = Cut(z)
    first, second = cut(FEATURES, WIDTH), cut(WIDTH, WIDTH)
    block = jax.checkpoint(lambda x, first, second: jnp.tanh(jax.nn.relu(x @ first) @ second))
    return bernoulli((block(data["x"], first, second) @ cut(WIDTH, 1))[:, 0], data)


def einsum(z, data):
    cut = Cut(z)
    h = jnp.tanh(jnp.einsum("ni,ij->nj", data["x"], cut(FEATURES, WIDTH)))
    bilinear = jnp.einsum("ni,ijk,nj->nk", h, cut(WIDTH, WIDTH, 3), h)
    return jnp.sum(bilinear * data["x"])


def attention(z, data):
    """Two heads over four positions per row; a long batch axis of products with batch dimensions."""
    cut = Cut(z)
    queries, keys, values = (jnp.einsum("ntf,fhd->nhtd", data["sequence"], cut(FEATURES, 2, 3)) for _ in range(3))
    weights = jax.nn.softmax(jnp.einsum("nhtd,nhsd->nhts", queries, keys) / jnp.sqrt(3.0))
    mixed = jnp.einsum("nhts,nhsd->nthd", weights, values).reshape(data["sequence"].shape[0], 4, 6)
    return bernoulli((mixed @ cut(6, 1)).sum(axis=(1, 2)), data)


def convolution(z, data):
    cut = Cut(z)
    signal = lax.conv_general_dilated(
        data["sequence"], cut(2, FEATURES, WIDTH), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return bernoulli((jnp.tanh(signal).mean(axis=1) @ cut(WIDTH, 1))[:, 0], data)


def convolution_of_hidden(z, data):
    cut = Cut(z)
    signal = lax.conv_general_dilated(
        hidden(cut, data)[:, :, None], cut(2, 1, 2), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return bernoulli(signal.sum(axis=(1, 2)), data)


def recurrent(z, data):
    cut = Cut(z)
    start = jnp.tanh(data["x"] @ cut(FEATURES, WIDTH))
    inner, outer = cut(FEATURES, WIDTH), cut(WIDTH, WIDTH)

    def cell(state, x):
        return jnp.tanh(x @ inner + state @ outer), None

    state, _ = lax.scan(cell, start, jnp.moveaxis(data["sequence"], 1, 0))
    return bernoulli((state @ cut(WIDTH, 1))[:, 0], data)


def conditional(z, data):
    cut = Cut(z)
    h = lax.cond(z[0] > 0, jnp.tanh, jax.nn.relu, data["x"] @ cut(FEATURES, WIDTH))
    return bernoulli((h @ cut(WIDTH, 1))[:, 0], data)


def loop(z, data):
    cut = Cut(z)
    h = lax.fori_loop(0, 3, lambda _, h: 0.5 * jnp.tanh(h) + 0.1, data["x"] @ cut(FEATURES, WIDTH))
    return bernoulli((h @ cut(WIDTH, 1))[:, 0], data)


def linear_solve(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    gram = h.T @ h + jnp.eye(WIDTH)
    factor = jnp.linalg.cholesky(gram)
    whitened = lax.linalg.triangular_solve(factor, h.T, left_side=True, lower=True)
    return jnp.sum(whitened**2) + jnp.sum(jnp.log(jnp.diag(factor)))


def gaussian_process(z, data):
    """Kernel matrix from outer differences; nothing to turn, and no rule may be caught by (rows, 1) - (1, rows)."""
    x = data["x"] * jnp.exp(z[:FEATURES])
    squared = jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1)
    kernel = jnp.exp(-0.5 * squared) + 0.1 * jnp.eye(x.shape[0])
    factor = jnp.linalg.cholesky(kernel)
    return -0.5 * jnp.sum(jax.scipy.linalg.solve_triangular(factor, data["y"], lower=True) ** 2)


def varying_slopes(z, data):
    cut = Cut(z)
    slopes, intercepts = cut(6, FEATURES), cut(6)
    mean = jnp.sum(slopes[data["group"]] * data["x"], axis=1) + intercepts[data["group"]]
    return -0.5 * jnp.sum((data["y"] - mean) ** 2)


def regression(z, data):
    cut = Cut(z)
    mean, scale = data["x"] @ cut(FEATURES), jax.nn.softplus(cut(1)[0]) + 0.1
    return jnp.sum(-0.5 * ((data["y"] - mean) / scale) ** 2 - jnp.log(scale))


def counts(z, data):
    cut = Cut(z)
    rate = jnp.exp(0.3 * (hidden(cut, data) @ cut(WIDTH, 1))[:, 0])
    return jnp.sum(data["label"] * jnp.log(rate) - rate - lax.lgamma(data["label"] + 1.0))


def masked(z, data):
    cut = Cut(z)
    logits = (hidden(cut, data) @ cut(WIDTH, 2)).clip(-2, 2)
    return jnp.sum(jnp.where(data["mask"][:, None], jnp.log1p(logits**2), 0.0))


def pooled(z, data):
    cut = Cut(z)
    h = hidden(cut, data) @ cut(WIDTH, 6)
    best = h.reshape(-1, 2, 3).max(axis=2)
    return jnp.sum(best * best[:, ::-1]) + jnp.sum(jnp.cumsum(h, axis=1)[:, -1])


def cut_up(z, data):
    cut = Cut(z)
    left, right = jnp.split(hidden(cut, data) @ cut(WIDTH, 4), 2, axis=1)
    padded = jnp.pad(left * right, ((1, 0), (0, 2)), constant_values=0.5)
    window = lax.dynamic_slice(padded, (data["group"][0], 0), (NUM_ROWS // 2, 3))
    return jnp.sum(jnp.tanh(window[1:, :2])) + jnp.prod(1 + 0.01 * padded[:, 1])


def flattened(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    return jnp.sum(jnp.ravel(h) * jnp.arange(h.size) / h.size) + jnp.sum(h.T.reshape(-1)[:10])


def already_minor(z, data):
    cut = Cut(z)
    h = jnp.tanh(cut(FEATURES, WIDTH).T @ data["x"].T)
    return bernoulli((cut(WIDTH, 1).T @ h)[0], data)


def mapped_rows(z, data):
    """One row at a time under vmap, as Equinox modules are written."""
    cut = Cut(z)
    first, second = cut(WIDTH, FEATURES), cut(1, WIDTH)
    logits = jax.vmap(lambda x: (second @ jnp.tanh(first @ x))[0])(data["x"])
    return bernoulli(logits, data)


@jax.custom_vjp
def clipped_gradient(x):
    return x


clipped_gradient.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))


@jax.custom_jvp
def halved_slope(x, power):
    return x**power


@halved_slope.defjvp
def _(primals, tangents):
    (x, power), (moved, _) = primals, tangents
    return halved_slope(x, power), 0.5 * power * x ** (power - 1) * moved


def custom_jvp_with_integer(z, data):
    cut = Cut(z)
    h = jax.vmap(halved_slope, (0, None))(hidden(cut, data), jnp.int32(3))
    return bernoulli((h @ cut(WIDTH, 1))[:, 0], data)


def linear_algebra_of_rows(z, data):
    cut = Cut(z)
    h = hidden(cut, data)
    return jnp.sum(jnp.linalg.norm(h, axis=1)) + jnp.sum(lax.top_k(h, 2)[0]) + jnp.sum(jnp.abs(jnp.fft.fft(h)))


def updated(z, data):
    cut = Cut(z)
    h = hidden(cut, data).at[:, 0].set(1.0).at[3].add(cut(WIDTH))
    return bernoulli((h @ cut(WIDTH, 1))[:, 0], data)


def names(*primitives: str) -> frozenset[str]:
    return frozenset(primitives)


CASES: dict[str, Case] = {
    **{name: Case(network(*activations), flips=3) for name, activations in ACTIVATIONS.items()},
    "softmax_pick": Case(softmax_pick, flips=3),
    "index_pick": Case(index_pick, flips=3),
    "one_hot_pick": Case(one_hot_pick, flips=3),
    "logsumexp_loss": Case(logsumexp_loss, flips=3),
    "mixture": Case(mixture, flips=4),
    "layer_norm": Case(layer_norm, flips=2),
    "batch_norm": Case(batch_norm, flips=2),
    "sorted_hidden": Case(sorted_hidden, flips=3),
    "ranked_rows": Case(ranked_rows, flips=2),
    "skip_connection": Case(skip_connection, flips=3),
    "stacked_heads": Case(stacked_heads, flips=5),
    "checkpointed": Case(checkpointed, flips=3),
    "einsum": Case(einsum, flips=1),
    "attention": Case(attention, flips=1),
    "convolution": Case(convolution, flips=1, fallbacks=names("conv_general_dilated")),
    "convolution_of_hidden": Case(convolution_of_hidden, flips=2, fallbacks=names("conv_general_dilated")),
    "recurrent": Case(recurrent, flips=1, fallbacks=names("scan")),
    "conditional": Case(conditional, flips=1, fallbacks=names("cond")),
    "loop": Case(loop, flips=1, fallbacks=names("scan", "while")),
    "linear_solve": Case(linear_solve, flips=2, fallbacks=names("triangular_solve")),
    "gaussian_process": Case(gaussian_process, flips=0, fallbacks=names("cholesky")),
    "varying_slopes": Case(varying_slopes, flips=0),
    "regression": Case(regression, flips=1),
    "counts": Case(counts, flips=3),
    "masked": Case(masked, flips=3),
    "pooled": Case(pooled, flips=3),
    "cut_up": Case(cut_up, flips=3),
    "flattened": Case(flattened, flips=2, fallbacks=names("reshape")),
    "already_minor": Case(already_minor, flips=0),
    "mapped_rows": Case(mapped_rows, flips=0),
    "custom_vjp": Case(
        network(lambda x: clipped_gradient(jnp.tanh(x)), jnp.tanh),
        flips=3,
        fallbacks=names("custom_vjp_call"),
        has_forward_mode=False,
    ),
    "custom_jvp_with_integer": Case(custom_jvp_with_integer, flips=3),
    "linear_algebra_of_rows": Case(linear_algebra_of_rows, flips=2, fallbacks=names("top_k", "fft")),
    "updated": Case(updated, flips=3, fallbacks=names("scatter", "scatter-add", "scatter_add")),
}
