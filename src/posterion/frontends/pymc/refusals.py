"""Models that cannot be taken over correctly, refused by the name of the variable with what to do instead."""

from posterion.errors import UnsupportedModelError
from posterion.frontends.pymc.foreign import SimulatorRV, pymc


def check_model(model: "pymc.Model") -> None:
    """Refuse what is known at sight: nothing to fit, discrete free variables, simulators.

    Raises
    ------
    UnsupportedModelError
        With the variables' names.
    """
    if not model.free_RVs:
        raise UnsupportedModelError(
            "The model has no free random variable, so there is nothing to fit. "
            "Give at least one pm distribution without observed=."
        )
    if not model.observed_RVs and not model.potentials:
        raise UnsupportedModelError(
            "The model has no observed variable and no pm.Potential: its posterior is its prior. "
            "Pass observed= to the variable that was measured, or draw with pm.sample_prior_predictive."
        )
    discrete = [v.name for v in model.free_RVs if v.dtype not in pymc.vartypes.continuous_types]
    if discrete:
        names = ", ".join(map(repr, discrete))
        raise UnsupportedModelError(
            f"The free variable{'s' * (len(discrete) > 1)} {names} take{'s' * (len(discrete) == 1)} discrete values, "
            "and variational inference here needs continuous ones. Sum them out first: "
            f"model = pymc_extras.marginalize(model, {discrete}), or write the sum as pm.Mixture."
        )
    simulators = [v.name for v in model.basic_RVs if v.owner is not None and isinstance(v.owner.op, SimulatorRV)]
    if simulators:
        raise UnsupportedModelError(
            f"{', '.join(map(repr, simulators))}: a pm.Simulator has no likelihood that could be evaluated. "
            "Use pm.sample_smc, or write the likelihood as pm.CustomDist."
        )


def no_jax_rule(names: list[str], message: str, *, sampling: bool, host_callbacks: bool) -> UnsupportedModelError:
    """The error for an operation that PyTensor cannot convert to JAX, naming it and the variables that need it."""
    where = " and ".join(map(_described, names))
    reason = message.splitlines()[0] if message else "no reason given"
    if sampling:
        return UnsupportedModelError(
            f"New values of {where} cannot be drawn in JAX ({reason}). The fit itself does not need this: "
            "draw with pm.sample_posterior_predictive(approx.sample(), model=model) instead."
        )
    advice = (
        ""
        if host_callbacks
        else " If the operation is a black box with its own gradient, from_pymc(model, host_callbacks=True) calls it "
        "on the host in every step, which is much slower."
    )
    if "While" in reason:
        advice = " Give pytensor.scan a fixed number of steps instead of pytensor.scan.until."
    return UnsupportedModelError(
        f"There is an operation that PyTensor cannot convert to JAX in {where}: {reason}.{advice} "
        "Otherwise sample this model with pm.sample."
    )


def _described(name: str) -> str:
    """An output's label, such as "prior w", in words."""
    kind, _, variable = name.partition(" ")
    words = {"prior": "the prior of ", "likelihood": "the likelihood of ", "potential": "the potential "}
    return f"{words[kind]}{variable!r}" if variable and kind in words else repr(name)


def first_line(error: Exception) -> str:
    """What an error says, without the pages that PyTensor adds."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
