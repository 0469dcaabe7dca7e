"""What compiling needs is found, or asked for in one sentence."""

import importlib.machinery
import importlib.util
import shutil
import sys

import pytest

from posterion.errors import MissingExtraError
from posterion.frontends.stan.toolchain import find_toolchain


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A package httpstan with the files that are used, and an empty PATH."""
    package = tmp_path / "httpstan"
    (package / "include" / "stan").mkdir(parents=True)
    (package / "lib").mkdir()
    (package / "stanc").touch()
    spec = importlib.machinery.ModuleSpec("httpstan", None)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "httpstan" else None)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "4.17.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "bin").mkdir()
    return tmp_path


def put(folder, name):
    (folder / name).write_text(f"#!/bin/sh\necho {name} 1.2\n")
    (folder / name).chmod(0o755)


def test_a_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"httpstan.*not installed.*pip install 'posterion\[stan\]'"):
        find_toolchain()


def test_a_package_without_its_files_is_named(place):
    (place / "httpstan/stanc").unlink()
    with pytest.raises(MissingExtraError, match="holds no stanc"):
        find_toolchain()


def test_a_missing_compiler_is_asked_for(place):
    with pytest.raises(MissingExtraError, match=r"no C\+\+ compiler here \(looked for g\+\+, clang\+\+, c\+\+\)") as e:
        find_toolchain()
    assert "\n" not in str(e.value)
    assert "apt install g++" in str(e.value) or sys.platform != "linux"


def test_compilers_are_taken_in_order(place):
    put(place / "bin", "clang++")
    found = find_toolchain()
    assert found.compiler == ("clang++",)
    assert found.stanc == place / "httpstan/stanc"
    assert found.stan_version == "4.17.0"
    put(place / "bin", "g++")
    assert find_toolchain().compiler == ("g++",)


def test_the_compiler_of_the_environment_comes_first(place, monkeypatch):
    put(place / "bin", "g++")
    put(place / "bin", "ccache")
    monkeypatch.setenv("CXX", "ccache g++-14")
    assert find_toolchain().compiler == ("ccache", "g++-14")
    monkeypatch.setenv("CXX", "icpx")
    with pytest.raises(MissingExtraError, match="looked for icpx, which CXX names"):
        find_toolchain()


def test_the_package_is_not_imported(stan_files):
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("there is no C++ compiler on this machine")
    found = find_toolchain()
    assert "httpstan" not in sys.modules
    assert found.threading_library.exists()
    assert found.compiler_version
