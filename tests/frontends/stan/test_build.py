"""One library per program and versions, compiled once however many want it, and whole once it can be seen."""

import dataclasses
import subprocess
import sys
import textwrap
import threading

import pytest

from posterion.errors import UnsupportedModelError
from posterion.frontends.stan.build import build_library
from posterion.frontends.stan.program import read_program
from tests.frontends.stan.fakes import calls, fake_toolchain

CODE = "parameters { real mu; }"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTERION_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tools(tmp_path):
    return fake_toolchain(tmp_path / "tools")


def test_a_program_is_compiled_once(tools, tmp_path, capsys):
    program = read_program(CODE, tools)
    library = build_library(program, tools)
    assert library.read_text() == "a library\n"
    assert library.parent == tmp_path / "cache" / "stan"
    assert "Compiling program.stan" in capsys.readouterr().err
    assert build_library(program, tools) == library
    assert calls(tools.stan, "compiler") == 1
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in library.parent.iterdir()] == [library.name]  # no lock, no temporary folder


def test_the_library_follows_all_that_it_is_made_of(tools, tmp_path):
    program = read_program(CODE, tools)
    variants = [
        (program, tools),
        (dataclasses.replace(program, code=CODE + " "), tools),
        (dataclasses.replace(program, name="other.stan"), tools),
        (dataclasses.replace(program, included=("real half(real x);",)), tools),
        (program, dataclasses.replace(tools, stan_version="4.18.0")),
        (program, fake_toolchain(tmp_path / "newer", version="2.0")),
        (program, fake_toolchain(tmp_path / "wider", processor="#define __AVX512F__ 1")),
    ]
    libraries = {build_library(*variant, progress=False) for variant in variants}
    assert len(libraries) == len(variants)
    moved = fake_toolchain(tmp_path / "moved")
    assert build_library(program, moved, progress=False) == build_library(program, tools, progress=False)
    assert calls(moved.stan, "compiler") == 0


def test_the_name_of_the_class_is_the_librarys(tools):
    library = build_library(read_program(CODE, tools), tools, progress=False)
    assert f"--name posterion_{library.stem}" in (tools.stan / "stanc.log").read_text()


def test_compiled_for_the_machines_processor_where_the_compiler_can(tools, tmp_path):
    program, plain = read_program(CODE, tools), fake_toolchain(tmp_path / "plain")
    (plain.stan / "processor").unlink()
    build_library(program, tools, progress=False)
    build_library(program, plain, progress=False)
    assert "-march=native" in (tools.stan / "compiler.log").read_text()
    assert "-march" not in (plain.stan / "compiler.log").read_text()


def test_threads_and_processes_wait_for_the_one_that_compiles(tools, tmp_path):
    program, found = read_program(CODE, tools), []
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from posterion.frontends.stan.build import build_library
        from posterion.frontends.stan.program import read_program
        from posterion.frontends.stan.toolchain import Toolchain
        folder = Path(sys.argv[1])
        tools = Toolchain(folder, "4.17.0", (str(folder / "compiler"),))
        print(build_library(read_program(sys.argv[2], tools), tools, progress=False))
    """)
    slow = (tools.stan / "compiler").read_text().replace("sleep 0.3", "sleep 3")  # a process takes that long to start
    (tools.stan / "compiler").write_text(slow)
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "tools"), CODE], stdout=subprocess.PIPE, text=True
    )
    threads = [
        threading.Thread(target=lambda: found.append(build_library(program, tools, progress=False))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.communicate(timeout=60)[0].strip() == str(found[0])
    assert len(set(found)) == 1
    assert calls(tools.stan, "compiler") == 1


def test_a_compiler_that_fails_is_quoted_and_asked_again(tools):
    program = read_program(CODE, tools)
    (tools.stan / "fails").touch()
    with pytest.raises(UnsupportedModelError, match=r"Fake C\+\+ 1.0.*program.stan.*\nprogram.cpp:7: error: no such"):
        build_library(program, tools, progress=False)
    (tools.stan / "fails").unlink()
    assert build_library(program, tools, progress=False).exists()
    assert calls(tools.stan, "compiler") == 2


def test_without_a_cache_a_process_keeps_its_own(tools, monkeypatch, tmp_path):
    monkeypatch.setenv("POSTERION_CACHE", "")
    program = read_program(CODE, tools)
    library = build_library(program, tools, progress=False)
    assert tmp_path not in library.parents
    assert build_library(program, tools, progress=False) == library
    assert calls(tools.stan, "compiler") == 1
