"""The digest of a function: the same for the same function, another for every other, none where that is not sure."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posterion.compilation.fingerprint import NotPlainError, fingerprint, text_of
from posterion.families import LowRank, MeanField
from posterion.methods.advi import ADVI

ONE = (np.float32(1.0),)
TABLE = np.linspace(0, 1, 2000, dtype=np.float32)


def _with_rule(factor, of_value=1.0, of_rule=1.0):
    """A function of its own rule, whose rule calls a function that has one too."""

    @jax.custom_jvp
    def inner(x):
        return jnp.cos(x)

    inner.defjvp(lambda x, t: (inner(*x), of_rule * x[0] * t[0]))

    @jax.custom_jvp
    def outer(x):
        return of_value * x

    outer.defjvp(lambda x, t: (outer(*x), factor * inner(*x) * t[0]))
    return lambda x: outer(x)


def test_the_same_function_written_twice_has_one_digest():
    first = lambda x: jnp.sum(jnp.logaddexp(x, 0.0)) + jax.lax.fori_loop(0, 3, lambda i, y: y * 2, x[0])
    again = lambda value: jnp.sum(jnp.logaddexp(value, 0.0)) + jax.lax.fori_loop(0, 3, lambda i, y: y * 2, value[0])
    digest = fingerprint(first, (np.ones(3, np.float32),))
    assert digest is not None
    assert fingerprint(again, (np.zeros(3, np.float32),)) == digest
    assert fingerprint(first, (np.ones(4, np.float32),)) != digest  # other shapes


@pytest.mark.parametrize(
    "other",
    [
        lambda x: jnp.sin(x) * 2,
        lambda x: jnp.sin(x) * (1 + 1e-7),
        lambda x: jnp.sin(x) + jnp.asarray(np.where(np.arange(2000) == 1000, 7, TABLE), np.float32)[3],
        _with_rule(1.0),
    ],
    ids=["operation", "last bit of a constant", "one entry of an array", "rule"],
)
def test_another_function_has_another(other):
    same = [lambda x: jnp.sin(x), lambda x: jnp.sin(x) + jnp.asarray(TABLE)[3], lambda x: x]
    assert fingerprint(other, ONE) not in [fingerprint(function, ONE) for function in same]


def test_rules_of_differentiation_count_up_to_second_derivatives():
    digests = {fingerprint(_with_rule(*a), ONE) for a in [(1.0,), (2.0,), (1.0, 3.0), (1.0, 1.0, 4.0)]}
    assert len(digests) == 4
    assert None not in digests
    assert fingerprint(_with_rule(2.0), ONE) in digests


def test_settings_count():
    before = fingerprint(jnp.sin, ONE)
    with jax.default_matmul_precision("float32"):
        assert fingerprint(jnp.sin, ONE) != before
    assert fingerprint(jnp.sin, ONE) == before


def test_what_is_not_plain_has_none():
    @jax.custom_vjp
    def reversed_only(x):
        return x

    reversed_only.defvjp(lambda x: (x, x), lambda kept, t: (t,))
    called = lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), np.float32), x)
    random = lambda x: x + jax.random.normal(jax.random.key(0))

    @jax.custom_jvp
    def once(x):
        return x

    @jax.custom_jvp
    def slope(x):
        return x

    @slope.defjvp
    def _(x, t):
        raise ValueError("cannot be differentiated")  # what JAX says of a call of foreign code

    once.defjvp(lambda x, t: (once(*x), slope(*x) * t[0]))
    for function in (reversed_only, called, random, lambda x: once(x)):
        assert fingerprint(function, ONE) is None


def test_descriptions_as_text():
    assert text_of(ADVI()) != text_of(ADVI(num_draws=2)) != text_of(ADVI(family=LowRank(rank=2)))
    assert text_of(ADVI()) == text_of(ADVI(family=MeanField()))

    @dataclass(frozen=True)
    class Theirs(MeanField):
        pass

    with pytest.raises(NotPlainError):
        text_of(ADVI(family=Theirs()))  # whose code may change from one process to the next


@pytest.mark.slow
def test_it_is_the_same_in_another_process():
    script = """
        import jax.numpy as jnp, numpy as np
        from posterion.compilation.fingerprint import fingerprint
        print(fingerprint(lambda x: jnp.sum(jnp.logaddexp(x, 0.0)), (np.ones(3, np.float32),)))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == fingerprint(lambda x: jnp.sum(jnp.logaddexp(x, 0.0)), (np.ones(3, np.float32),))
