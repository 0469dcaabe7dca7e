"""The build fails on a public name that the documentation does not show, or whose docstring says too little."""

import importlib
import inspect
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError

PUBLIC = ("callbacks", "data", "decisions", "diagnostics", "errors", "plots", "serving")
MODULES = tuple(f"posterion.{name}" for name in PUBLIC)
"""Modules that users reach by an attribute of `posterion` and whose names are public, besides ``posterion.__all__``."""


def public_objects() -> Iterator[tuple[str, Any]]:
    """Every public name with what it stands for; modules stand for the names in them."""
    names = {f"posterion.{name}": getattr(importlib.import_module("posterion"), name) for name in _all_of("posterion")}
    modules = [*MODULES, *(value.__name__ for value in names.values() if isinstance(value, ModuleType))]
    yield from ((name, value) for name, value in names.items() if not isinstance(value, ModuleType))
    for module in dict.fromkeys(modules):
        for name in _all_of(module):
            yield f"{module}.{name}", getattr(importlib.import_module(module), name)


def _all_of(module: str) -> list[str]:
    found = importlib.import_module(module)
    own = (name for name, value in vars(found).items() if getattr(value, "__module__", "") == module)
    listed = getattr(found, "__all__", own)
    return [name for name in listed if not name.startswith("_")]


def docstring_problems() -> list[str]:
    """What is missing in the docstrings of public names."""
    problems = []
    for name, value in public_objects():
        if not callable(value):
            continue
        problems += _problems_of(name, value, whole=not _is_error(value))
        if inspect.isclass(value):
            for method, member in vars(value).items():
                if not method.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                    problems += _problems_of(f"{name}.{method}", getattr(value, method), whole=False)
    return problems


def _is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def _is_protocol(value: Any) -> bool:
    """Whether it only says what others must have: nobody makes one, so it has no parameters."""
    return inspect.isclass(value) and bool(getattr(value, "_is_protocol", False))


def _problems_of(name: str, value: Any, *, whole: bool) -> list[str]:
    text = inspect.getdoc(value)
    if not text:
        return [f"{name} has no docstring"]
    documented = _parameters_in(text)
    if not callable(value) or (documented is None and not whole) or _is_error(value) or _is_protocol(value):
        return []
    taken = [p for p in inspect.signature(value).parameters if p not in ("self", "cls")]
    missing = [p for p in taken if p not in (documented or ())]
    unknown = [p for p in documented or () if p not in taken]
    return [f"{name} does not say what its parameter {p!r} is" for p in missing] + [
        f"{name} speaks of a parameter {p!r} that it does not have" for p in unknown
    ]


def _parameters_in(docstring: str) -> list[str] | None:
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\S[^\n]*\n-{3,}\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    if section is None:
        return None
    lines = [line for line in section[1].splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for line in lines for name in line.partition(" : ")[0].split(",")]


def documented_names(site: Path) -> set[str]:
    """The names that the built site has an entry for."""
    inventory = (site / "objects.inv").read_bytes()
    return {
        line.split()[0] for line in zlib.decompress(inventory.split(b"zlib.\n", 1)[1]).decode().splitlines() if line
    }


def on_post_build(config: MkDocsConfig, **_: object) -> None:
    """Compare the built site with the public names."""
    shown = documented_names(Path(config.site_dir))
    problems = docstring_problems()
    for name, value in public_objects():
        own = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        if callable(value) and name not in shown and own not in shown:
            problems.append(f"{name} is public, but no page under docs/api shows it")
    if problems:
        raise PluginError("\n".join(["the documentation does not cover the public interface:", *problems]))
