"""The project's own files agree with each other and with what users are promised."""

import re
import subprocess
import tomllib
from pathlib import Path

import posterion

ROOT = Path(__file__).parent.parent


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_one_version_everywhere():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert citation[1] == posterion.__version__
    released = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert not released or released[0] == posterion.__version__


def test_constraints_are_exact_versions_and_nothing_else():
    text = (ROOT / "constraints.txt").read_text()
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line), line


def test_every_declared_package_is_pinned_within_its_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [row for rows in project["optional-dependencies"].values() for row in rows]
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins().items()}
    for requirement in [*project["dependencies"], *extras]:
        if requirement.startswith("posterion["):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[\w+\])?>=([\d.]+)", requirement)
        assert match, f"{requirement}: a lower bound that was tested, and no other"
        assert _numbers(pinned[match[1].lower()]) >= _numbers(match[2]), requirement


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_a_missing_python_is_answered_with_one_sentence(tmp_path):
    """The set-up on a machine without a usable Python, in a copy of its own so that it can touch nothing here."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/setup.sh").write_text((ROOT / "scripts/setup.sh").read_text())
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "basename", "cksum", "cat", "rm", "ls"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tools / tool).symlink_to(found)
    launcher = tools / "python3.13"  # pyenv has one for every version, and it fails for those that are not selected
    launcher.write_text("#!/bin/sh\necho 'python3.13: command not found' >&2\nexit 127\n")
    launcher.chmod(0o755)
    run = subprocess.run(
        ["bash", "scripts/setup.sh"], cwd=tmp_path, env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60
    )
    assert run.returncode != 0
    assert run.stdout == ""
    assert len(run.stderr.splitlines()) == 1
    assert "3.12" in run.stderr
    assert "install Python" in run.stderr
    assert not (tmp_path / ".venv").exists()
