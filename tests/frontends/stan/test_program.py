"""A program is read from a file or from text, and stanc's messages come through."""

import pytest

from posterion.errors import OptionError
from posterion.frontends.stan.program import Declaration, read_program
from posterion.frontends.stan.toolchain import Toolchain
from tests.frontends.stan.fakes import calls, fake_toolchain


def test_text_and_files_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tools = fake_toolchain(tmp_path / "tools")
    text = read_program("parameters { real mu; }", tools)
    assert (text.name, text.code, text.folders) == ("program.stan", "parameters { real mu; }", ())
    file = tmp_path / "model.stan"
    file.write_text("parameters { real mu; }")
    for way in (file, str(file), "model.stan"):
        read = read_program(way, tools, include_paths=[tmp_path / "more"])
        assert (read.name, read.code) == ("model.stan", text.code)
        assert read.folders == (tmp_path, tmp_path / "more")
    assert f"--include-paths={tmp_path},{tmp_path / 'more'}" in (tmp_path / "tools/stanc.log").read_text()
    with pytest.raises(OptionError, match=r"cannot read the Stan program other.stan \(No such file"):
        read_program("other.stan", tools)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.stan", "tools"]  # stanc has left nothing here


def test_declarations_come_from_stanc(tmp_path):
    found = read_program("parameters { real mu; }", fake_toolchain(tmp_path))
    assert dict(found.inputs) == {"N": Declaration("int", 0), "y": Declaration("real", 1)}
    assert found.outputs == {"mu": Declaration("real", 0), "pair": Declaration("tuple", 0)}
    assert found.remarks == ""
    assert found.to_cpp(fake_toolchain(tmp_path), "name") == "// C++ of: parameters { real mu; }\n"
    assert "--name name" in (tmp_path / "stanc.log").read_text()


def test_messages_are_passed_on(tmp_path):
    tools = fake_toolchain(tmp_path)
    with pytest.raises(OptionError, match=r"stanc does not accept program.stan:\nSyntax error in 'model.stan', line 3"):
        read_program("{ broken", tools)
    assert read_program("{ odd", tools).remarks == "Warning in 'model.stan', line 4"
    assert calls(tmp_path, "stanc") == 2


# ---- the real stanc, which takes a twentieth of a second
@pytest.fixture
def real(stan_files):
    from posterion.frontends.stan.toolchain import _stan_folder

    return Toolchain(_stan_folder(), "", ("false",))


def test_stancs_errors_have_file_and_line(real, tmp_path):
    file = tmp_path / "height.stan"
    file.write_text("data {\n  int N\n}\nparameters { real mu; }")
    with pytest.raises(OptionError, match=r"Syntax error in 'height.stan', line 3, column 0(.|\n)*Expected \";\""):
        read_program(file, real)
    file.write_text("parameters { real mu; }\nmodel { mu ~ normal(0, tau); }")
    with pytest.raises(OptionError, match=r"Semantic error in 'height.stan', line 2(.|\n)*\"tau\" not in scope"):
        read_program(file, real)
    file.write_text("functions {\n#include nowhere.stan\n}\nparameters { real mu; }")
    with pytest.raises(OptionError, match=r"line 2(.|\n)*nowhere.stan"):
        read_program(file, real)


def test_stancs_remarks_and_information(real, tmp_path):
    (tmp_path / "half.stan").write_text("real half(real x) { return x / 2; }")
    code = """
    functions {
    #include half.stan
    }
    data { int N; array[N] int<lower=0> y; matrix[N, 2] x; }
    parameters { simplex[3] p; complex c; array[2] tuple(real, vector[2]) both; }
    model { int k = 3; p ~ dirichlet([half(k / 2), 1, 1]'); }
    generated quantities { array[2] int z = {1, 2}; }
    """
    found = read_program(code, real, [tmp_path])
    assert "line 7" in found.remarks
    assert "int division" in found.remarks
    assert found.included == ("real half(real x) { return x / 2; }",)
    assert dict(found.inputs) == {"N": Declaration("int", 0), "y": Declaration("int", 1), "x": Declaration("real", 2)}
    assert [what.type for what in found.parameters.values()] == ["real", "complex", "tuple"]
    assert dict(found.generated) == {"z": Declaration("int", 1)}
    assert "namespace given_namespace" in found.to_cpp(real, "given")
