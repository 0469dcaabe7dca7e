"""The documentation tells the truth: its code runs, its pages build, and every public name is shown."""

import importlib.util
import os
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import posterion
from posterion.target import Layout, Variable

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_of(page: str) -> dict:
    """The names that a page's Python defines, run from top to bottom."""
    names = {"__name__": "docs_example"}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks, f"{page} has no code"
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_every_public_docstring_says_enough():
    assert load(DOCS / "_hooks/coverage.py").docstring_problems() == []


def test_poor_docstrings_are_found():
    """The test above can fail."""
    problems_of = load(DOCS / "_hooks/coverage.py")._problems_of

    def bare(x): ...

    def silent(x):
        """Do it."""

    def wrong(x):
        """Do it.

        Parameters
        ----------
        y
            What is meant.

        Returns
        -------
        None
        """

    def right(x, *rest, y=1):
        """Do it.

        Parameters
        ----------
        x, y
            What is meant.
        *rest
            More of it.
        """

    assert problems_of("f", bare, whole=True) == ["f has no docstring"]
    assert problems_of("f", silent, whole=True) == ["f does not say what its parameter 'x' is"]
    assert len(problems_of("f", wrong, whole=False)) == 2
    assert problems_of("f", right, whole=True) == []


def test_docstring_markup_is_translated():
    translate = load(DOCS / "_hooks/numpydoc_markup.py").to_markdown
    text = (
        "Bound [1]_ of :math:`x`.\n\n.. math:: a = b\n          + c\n\nText.\n\n.. [1] Somebody (2020),\n   A title.\n"
    )
    assert (
        translate(text)
        == "Bound \\[1\\] of $x$.\n\n$$\na = b + c\n$$\n\nText.\n\n- \\[1\\] Somebody (2020), A title.\n"
    )


def test_formulas_become_mathml():
    to_html = load(DOCS / "_hooks/formulas.py").on_page_content
    page = to_html(
        '<p><span class="arithmatex">\\(a &lt; b\\)</span> and <div class="arithmatex">\\[\\frac{1}{2}\\]</div></p>'
    )
    assert "arithmatex" not in page
    assert 'display="inline"' in page
    assert "<mfrac>" in page


def test_the_family_of_the_guide_obeys_the_laws():
    family = code_of("docs/developers/new_family.md")["FullRank"]()
    layout = Layout((Variable("v", (3,), (3,)),))
    with jax.enable_x64(True):
        params = family.init(layout, jnp.arange(3.0), jax.random.key(0), 0.5)
        params["below"] = jax.random.normal(jax.random.key(1), (3, 3))
        noise = family.noise(layout, jax.random.key(2), 4)
        z, log_q = jax.vmap(lambda one: family.transport(layout, params, one))(noise)
        direct = jax.vmap(lambda one: family.log_prob(layout, params, one))(z)
        np.testing.assert_allclose(log_q, direct, rtol=1e-10)
        factor = np.tril(params["below"], -1) + np.diag(np.exp(params["log_diagonal"]))
        normal = jax.scipy.stats.multivariate_normal.logpdf(z, params["location"], factor @ factor.T)
        np.testing.assert_allclose(direct, normal, rtol=1e-10)
        shift, scale = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 3.0, 20.0])
        moved = family.affine(layout, params, shift, scale)
        after = jax.vmap(lambda one: family.log_prob(layout, moved, shift + scale * one))(z)
        np.testing.assert_allclose(after, direct - np.log(scale).sum(), rtol=1e-10)


def test_the_target_of_the_guide_can_be_fitted():
    """The Poisson regression of the guide finds the weights that made the data, and predicts their rates."""
    random = np.random.default_rng(0)
    x, weights = random.normal(size=(500, 2)), np.array([0.5, -0.3])
    y = random.poisson(np.exp(x @ weights))
    target = code_of("docs/developers/new_front_end.md")["PoissonRegression"](x, y, ("first", "second"))
    approx = posterion.fit(target, n=1500, random_seed=1, progress=False)
    draws = approx.sample(500)["posterior"]["w"].values[0]
    assert np.all(np.abs(draws.mean(0) - weights) < 4 * draws.std(0))
    assert np.all(draws.std(0) < 0.1)
    new = random.normal(size=(7, 2))
    rate = approx.predict({"x": new}).mean["y"]
    np.testing.assert_allclose(rate, np.exp(new @ weights), rtol=0.3)
    with pytest.raises(posterion.errors.DataError, match="shape"):
        approx.predict({"x": new[:, :1]})


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = code_of("README.md")
    accuracy = re.search(r"^accuracy ([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.88
    assert names["trace"]["posterior"]["w_in_1"].dims == ("chain", "draw", "column", "hidden_1")
    loaded = posterion.load("cancer.posterion").predict({"x": names["X_test"]})
    np.testing.assert_allclose(loaded.mean["out"], names["prediction"].mean["out"], atol=1e-6)


@pytest.mark.slow
def test_an_example_becomes_a_page(tmp_path, monkeypatch):
    """Text, code, output and pictures, in order; again only when the example has changed; an error is an error."""
    build = load(ROOT / "scripts/build_tutorials.py")
    example, page = tmp_path / "examples/small.py", tmp_path / "docs/tutorials/small.md"
    example.parent.mkdir()
    for name, value in {"ROOT": tmp_path, "EXAMPLES": example.parent, "PAGES": page.parent}.items():
        monkeypatch.setattr(build, name, value)
    monkeypatch.setattr(sys, "argv", ["build_tutorials.py"])
    example.write_text(
        "# %% [markdown]\n# # A title\n\n# %%\nimport sys\nprint(6 * 7)\nprint('noise', file=sys.stderr)\n\n"
        "# %%\nfrom IPython.display import Image\nimport base64\n"
        "Image(base64.b64decode('iVBORw0KGgo='), format='png')\n"
    )
    build.main()
    text = page.read_text()
    parts = ["# A title", "```python\nimport sys", "```text\n42\n```", "![](small_files/1.png)", "`examples/small.py`"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert "\nnoise\n" not in text
    assert (page.parent / "small_files/1.png").read_bytes() == b"\x89PNG\r\n\x1a\n"
    written = page.stat().st_mtime_ns
    picture = example.parent / "gallery/dot.py"
    picture.parent.mkdir()
    picture.write_text(example.read_text().replace("A title", "A dot"))
    build.main()
    assert page.stat().st_mtime_ns == written
    index = (tmp_path / "docs/gallery/index.md").read_text()
    assert "[![A dot](dot_files/1.png)](dot.md)" in index
    assert (tmp_path / "docs/gallery/dot_files/1.png").exists()
    example.write_text("# %%\nraise ValueError('broken')\n")
    with pytest.raises(Exception, match="broken"):
        build.main()


GALLERY = sorted((ROOT / "examples/gallery").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=[path.stem for path in GALLERY])
def test_a_script_of_the_gallery_draws_its_picture(script):
    """One figure each, which renders without a warning of the layout."""
    import matplotlib

    with matplotlib.rc_context({"backend": "Agg"}):
        from matplotlib import pyplot

        pyplot.close("all")
        exec(compile(script.read_text(), str(script), "exec"), {"__name__": "gallery"})
        (number,) = pyplot.get_fignums()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pyplot.figure(number).canvas.draw()
        pyplot.close("all")


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    fetched = [p for p in pages if re.search(r'(?:src|href)="(?:https?:)?//[^"]*\.(?:js|css|woff2?)', p.read_text())]
    assert not fetched, "pages that need a network"


def test_the_page_on_estimators_runs():
    names = code_of("docs/how-to/estimators.md")
    assert names["probabilities"].shape == (len(names["y_new"]), 2)
