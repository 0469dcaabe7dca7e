"""Bayesian models by variational inference in JAX, with a verdict and honest predictions."""

__version__ = "0.1.0"
