"""Methods: frozen descriptions of how a member of a family is found, and the algorithms they become for a target."""

from posterion.methods.advi import ADVI

__all__ = ["ADVI"]
