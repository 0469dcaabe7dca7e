"""Networks: targets whose likelihood depends on the data through the output of a network.

The output stands between the weights and the likelihood, and methods that linearise the network, or treat its last
layer apart, need to take hold of it.
"""

import abc
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Float

from posterion._typing import Array, Data, Key
from posterion.target.target import AbstractRowTarget, JointTerms, Moments


class AbstractNetworkTarget(AbstractRowTarget):
    """A target with a network's output between its weights and its likelihood."""

    hyperparameters: tuple[str, ...]
    """Free variables that the output does not depend on: scales of priors, noise."""

    @abc.abstractmethod
    def output(self, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        """The network's output for each observed variable, rows first."""

    @abc.abstractmethod
    def log_prior(self, z: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of all free variables in unconstrained space."""

    @property
    def normal_given_others(self) -> tuple[str, ...]:
        """Free variables whose prior is normal given the others, and on which no other variable's prior depends."""
        return ()

    def expected_log_prior(
        self, z: Float[Array, " dim"], variances: Mapping[str, Float[Array, " entries"]]
    ) -> Float[Array, ""]:
        """`log_prior` in expectation over some variables of `normal_given_others`.

        Parameters
        ----------
        z
            Holds the means of these variables, and values of all others.
        variances
            Of their entries, which are independent normals.
        """
        if variances:
            raise NotImplementedError(f"nothing is known of the priors of {', '.join(variances)}")
        return self.log_prior(z)

    @abc.abstractmethod
    def log_likelihood(self, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data) -> dict[str, Array]:
        """Log density of each row given the output; ``z`` only enters by the hyperparameters."""

    @abc.abstractmethod
    def moments_given(self, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data) -> dict[str, Moments]:
        """Moments of each row given the output; ``z`` only enters by the hyperparameters."""

    @abc.abstractmethod
    def simulate_given(
        self, key: Key, z: Float[Array, " dim"], output: Mapping[str, Array], data: Data
    ) -> dict[str, Array]:
        """Outcomes given the output; ``z`` only enters by the hyperparameters."""

    def joint_terms(self, z: Float[Array, " dim"], data: Data) -> JointTerms:
        return JointTerms(self.log_prior(z), self.log_likelihood(z, self.output(z, data), data))

    def named_terms(self, z: Float[Array, " dim"], data: Data) -> dict[str, Float[Array, ""]]:
        terms = self.joint_terms(z, data)
        return {"the prior": terms.log_prior} | {name: jnp.sum(rows) for name, rows in terms.log_likelihood.items()}

    def moments(self, z: Float[Array, " dim"], data: Data) -> dict[str, Moments]:
        return self.moments_given(z, self.output(z, data), data)

    def simulate(self, key: Key, z: Float[Array, " dim"], data: Data) -> dict[str, Array]:
        return self.simulate_given(key, z, self.output(z, data), data)
