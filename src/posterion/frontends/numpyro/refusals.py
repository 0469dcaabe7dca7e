"""Models that cannot be fitted rightly are refused by the name of what stands in the way, with what to do instead."""

from posterion.errors import UnsupportedModelError
from posterion.frontends.numpyro.call import Call
from posterion.frontends.numpyro.structure import Structure


def check_sites(structure: Structure, call: Call) -> None:
    """Refuse models without unknowns, or without anything observed.

    Raises
    ------
    UnsupportedModelError
        With what was probably forgotten.
    """
    name = getattr(call.model, "__name__", "the model")
    if not structure.latents and not structure.terms:
        raise UnsupportedModelError(
            f"{name} has no numpyro.sample statement, so there is nothing to fit. If it is a log density, "
            "posterion.log_density(fn, initial=...) makes it a target."
        )
    if not structure.latents:
        raise UnsupportedModelError(f"{name} has no unknowns: every numpyro.sample of it is observed.")
    if not structure.terms:
        raise UnsupportedModelError(
            f"{name} has nothing observed: no numpyro.sample got obs=... and there is no numpyro.factor. "
            "Was the outcome left at None? Pass it in model_args or model_kwargs."
        )


def check_randomness(needed: frozenset[str]) -> None:
    """Refuse what changes the density without being a variable of the model or its data.

    Parameters
    ----------
    needed
        All inputs that the model's results depend on, by the labels of `posterion.frontends.numpyro.model`.

    Raises
    ------
    UnsupportedModelError
        For parameters without a prior, and random numbers that the model draws by itself.
    """
    for label in sorted(needed):
        kind, _, name = label.partition(" ")
        if kind == "param":
            raise UnsupportedModelError(
                f"numpyro.param {name.rpartition(' ')[0]!r} has no prior: it would be optimised, and the posterior "
                "would not know how uncertain it is. Make it a numpyro.sample; of a neural network, use "
                "random_flax_module, random_nnx_module or random_eqx_module with a prior for every parameter."
            )
        if kind == "key":
            raise UnsupportedModelError(
                "the model draws random numbers by itself (numpyro.prng_key: dropout?), which a log density cannot. "
                "Leave the dropout out: the prior of the weights does its work."
            )
