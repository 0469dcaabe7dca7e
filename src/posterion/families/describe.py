"""Families as plain values, so that a saved posterior names its family in JSON and gets it back."""

import dataclasses
from typing import Any

from posterion.errors import PosteriorFileError
from posterion.families.base import AbstractFamily
from posterion.families.empirical import Particles, Point
from posterion.families.flow import NormalizingFlow
from posterion.families.full_rank import FullRank
from posterion.families.low_rank import LowRank
from posterion.families.mean_field import MeanField
from posterion.families.mixture import Mixture

_KNOWN = (FullRank, LowRank, MeanField, Mixture, NormalizingFlow, Particles, Point)
_FAMILIES: dict[str, type[AbstractFamily]] = {cls.__name__: cls for cls in _KNOWN}


def to_plain(family: AbstractFamily) -> dict[str, Any]:
    """The family's name and fields; families inside families likewise."""
    fields = {_key_of(f.name): getattr(family, f.name) for f in dataclasses.fields(family)}
    return {"family": type(family).__name__} | {key: _field_to_plain(value) for key, value in fields.items()}


def from_plain(plain: dict[str, Any]) -> AbstractFamily:
    """The inverse of `to_plain`.

    Raises
    ------
    PosteriorFileError
        For a family this version does not know.
    """
    name = plain["family"]
    if name not in _FAMILIES:
        raise PosteriorFileError(
            f"the posterior is of the family {name!r}, which this version of Posterion does not know; "
            "install the version that saved it, or a newer one"
        )
    fields = {_name_of(key): _field_from_plain(value) for key, value in plain.items() if key != "family"}
    return _FAMILIES[name](**fields)


def _key_of(name: str) -> str:
    """A family of another family names that one ``family``, which is the key of its own name."""
    return "of" if name == "family" else name


def _name_of(key: str) -> str:
    return "family" if key == "of" else key


def _field_to_plain(value: Any) -> Any:
    if isinstance(value, AbstractFamily):
        return to_plain(value)
    if isinstance(value, tuple):
        return [_field_to_plain(item) for item in value]
    return value


def _field_from_plain(value: Any) -> Any:
    if isinstance(value, dict) and "family" in value:
        return from_plain(value)
    if isinstance(value, list):
        return tuple(_field_from_plain(item) for item in value)
    return value
