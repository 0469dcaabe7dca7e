"""The command line: exit codes, messages, and what it prints."""

import os
import re
import subprocess
import sys
import time
import typing

import pytest
import typer

import posterion as po
from posterion.cli import main
from posterion.cli.application import app, demo
from posterion.demo.data import DATA_SETS
from posterion.errors import PosteriorFileError
from tests.hand_written import network


def posterion(*arguments, **environment):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from posterion.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


def leave(capsys, *arguments):
    """Run the command here: (exit code, standard output, standard error)."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return ended.value.code or 0, said.out, said.err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "fit.posterion"
    po.fit(network(num_rows=40), n=100, random_seed=0, progress=False).save(path)
    return path


def test_version(capsys):
    assert leave(capsys, "--version") == (0, f"posterion {po.__version__}\n", "")


def test_help_names_every_command_and_the_exit_codes(capsys):
    code, out, _ = leave(capsys, "--help")
    assert code == 0
    for said in ("demo", "info", "report", "Exit codes: 0 done, 1 failed", "2 called wrongly, 130"):
        assert said in " ".join(out.split())


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom posterion.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'jax', 'pymc', 'matplotlib', 'sklearn', 'xarray', 'scipy'} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert run.stderr.strip() == "[]"


@pytest.mark.slow
def test_help_is_quick():
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        assert posterion("--help").returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.8  # 0.5 s on a quiet machine


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("demo", "--data", "iris"),
        ("demo", "--seed", "-1"),
        ("demo", "--seed", "x"),
        ("info", "/no/such/file"),
    ],
)
def test_wrong_calls_leave_with_two(capsys, arguments):
    code, _, err = leave(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert arguments[-1] in err or "seed" in err


def test_our_errors_are_one_message_and_leave_with_one(capsys, tmp_path):
    broken = tmp_path / "broken.posterion"
    broken.write_bytes(b"nothing of ours")
    code, out, err = leave(capsys, "info", broken)
    assert (code, out) == (1, "")
    assert err.startswith("posterion: ")
    assert "not a saved posterior" in err
    assert "Traceback" not in err
    with pytest.raises(PosteriorFileError):
        main(["--debug", "info", str(broken)])


def test_what_the_system_refuses_is_a_message_too(capsys, tmp_path, monkeypatch):
    import posterion.demo.run

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(posterion.demo, "run_demo", refuse)
    code, _, err = leave(capsys, "demo", "--output", tmp_path / "x")
    assert code == 1
    assert "Permission denied" in err


def test_missing_typer_is_explained():
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['typer'] = None\nfrom posterion.cli import main; main(['info'])",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "pip install 'posterion[cli]'" in run.stderr
    assert "Traceback" not in run.stderr


def test_info_of_the_installation(capsys):
    code, out, _ = leave(capsys, "info")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    import jax

    assert facts["posterion"] == po.__version__
    assert facts["jax"] == jax.__version__
    assert facts["devices"].startswith("cpu")


def test_info_of_a_posterior(capsys, saved):
    code, out, _ = leave(capsys, "info", saved)
    assert code == 0
    assert "Posterior of 40 parameters" in out
    assert "took the 100 steps" in out


def test_terminals_without_our_letters_are_served(saved):
    run = posterion("info", saved, PYTHONIOENCODING="ascii")
    assert run.returncode == 0, run.stderr
    assert "ELBO" in run.stdout


def test_report_of_a_posterior(capsys, saved, tmp_path):
    code, out, _ = leave(capsys, "report", saved, "--output", tmp_path / "page.html")
    assert code == 0
    assert out.strip() == str(tmp_path / "page.html")
    assert "took the 100 steps" in (tmp_path / "page.html").read_text()


def test_demo_passes_its_options_on(capsys, tmp_path, monkeypatch):
    import posterion.demo

    called = {}
    monkeypatch.setattr(posterion.demo, "run_demo", lambda *a, **k: called.update(k, arguments=a))
    code, _, _ = leave(capsys, "demo", "--data", "moons", "--output", tmp_path, "--seed", 7, "--quick", "--no-progress")
    assert code == 0
    assert called == {"arguments": ("moons", tmp_path), "random_seed": 7, "quick": True, "progress": False}


def test_choices_of_data_are_those_there_are():
    hints = typing.get_type_hints(demo)
    assert typing.get_args(hints["data"]) == DATA_SETS


def test_nothing_is_written_where_a_file_is(capsys, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("keep")
    code, _, err = leave(capsys, "demo", "--output", mine)
    assert code == 2
    assert "file" in err
    assert mine.read_text() == "keep"


def test_a_shell_completes_commands_and_options():
    """The script that a shell is given asks the command itself; what it answers is what Tab offers."""
    shown = posterion("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert shown.returncode == 0, shown.stderr
    assert "complete -o default -F" in shown.stdout and "_POSTERION_COMPLETE=complete_bash" in shown.stdout
    asked = {"_POSTERION_COMPLETE": "complete_bash"}
    commands = posterion(**asked, COMP_WORDS="posterion s", COMP_CWORD="1").stdout.split()
    assert commands == ["suggest", "serve"]
    options = posterion(**asked, COMP_WORDS="posterion fit --ta", COMP_CWORD="2").stdout.split()
    assert {"--target", "--task"} <= set(options)
    tasks = posterion(**asked, COMP_WORDS="posterion fit --task re", COMP_CWORD="3").stdout.split()
    assert tasks == ["regression"]


def test_every_command_shows_an_example_that_it_understands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name, command in typer.main.get_command(app).commands.items():
        shown = re.search(r"Example: posterion (.+)", command.help)
        assert shown, f"{name} --help has no example"
        first, *words = shown[1].split()
        assert first == name
        command.make_context(name, words)
