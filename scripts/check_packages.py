"""What users install: builds sdist and wheel, installs the wheel into empty environments, and uses it there.

Without arguments the core alone: it must fit, and what it lacks must say which extra brings it. Each extra that is
named is installed by itself into an environment of its own, and does what it is for. The versions are those of
constraints.txt.

    python scripts/check_packages.py
    python scripts/check_packages.py tables serve pymc
    python scripts/check_packages.py every
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CORE = """
import numpy as np
import posterion as po

model = po.log_density(lambda p: -0.5 * ((p["x"] - 3.0) / 2.0) ** 2, initial={"x": 0.0})
approx = po.fit(model, "laplace", progress=False)
draws = approx.sample(4000, random_seed=0)["posterior"]["x"].values
np.testing.assert_allclose((draws.mean(), draws.std()), (3.0, 2.0), atol=0.2)
"""
LACKS = """
import posterion as po
from posterion.cli import main

try:
    main(["info"])
except SystemExit as ended:
    assert ended.code == 1, ended.code
else:
    raise AssertionError("the command line works without Typer?")
"""
TABLES = """
import numpy as np
import pandas as pd
from posterion.tabular.folder import load_model, save_model
from posterion.tabular.training import fit_table

random = np.random.default_rng(0)
frame = pd.DataFrame({"age": random.normal(50, 9, 120), "ward": random.choice(["north", "south"], 120)})
frame["ill"] = np.where(frame["age"] + random.normal(0, 5, 120) > 50, "yes", "no")
save_model(fit_table(frame, "ill")[0], "model")
assert (load_model("model").predict(frame)["prediction"] == frame["ill"]).mean() > 0.7
"""
PYMC = """
import numpy as np
import posterion as po
import pymc as pm

with pm.Model():
    pm.Normal("y", pm.Normal("m", 0, 10), 1, observed=np.full(50, 2.0))
    approx = po.fit(method="laplace", progress=False)
assert abs(approx.sample(500)["posterior"]["m"].values.mean() - 2) < 0.1
"""
PLOTS = """
import posterion as po
from posterion import plots

model = po.log_density(lambda p: -0.5 * p["x"] ** 2, initial={"x": 0.0})
plots.plot_parameters(po.fit(model, "laplace", progress=False).sample(200)["posterior"])
"""
SERVE = """
import httptools, jax, jax.numpy as jnp
import numpy as np
import pandas as pd
import posterion as po
from posterion import serving

x = np.linspace(-2, 2, 40)[:, None]
model = po.log_density(
    initial={"slope": 0.0},
    data={"x": x, "y": (x[:, 0] > 0) * 1.0},
    log_prior=lambda p: -0.5 * p["slope"] ** 2,
    log_likelihood=lambda p, rows: -jax.nn.softplus((1 - 2 * rows["y"]) * p["slope"] * rows["x"][:, 0]),
    predict_mean=lambda p, rows: jax.nn.sigmoid(p["slope"] * rows["x"][:, 0]),
    kind="binary",
    name="ill",
)
training = pd.DataFrame({"age": x[:, 0], "ill": x[:, 0] > 0})
served = serving.PosteriorModel(po.fit(model, "laplace", progress=False), training, input="x", target="ill")
found = serving.create_app(served).state.service.predictions([{"age": 2.0}])["predictions"][0]
assert found["label"] == "1", found
"""
FLOWS = """
import posterion as po

model = po.log_density(lambda p: -0.5 * p["x"] ** 2 - 0.5 * p["y"] ** 2, initial={"x": 0.0, "y": 0.0})
approx = po.fit(model, po.ADVI(family=po.NormalizingFlow()), n=20, progress=False)
assert approx.sample(100)["posterior"]["x"].shape == (1, 100)
"""
USES = {
    "cli": "from posterion.cli import main\nmain(['info'])",
    "equinox": "import equinox, jax, posterion as po\n"
    "po.network(equinox.nn.MLP(2, 1, 3, 1, key=jax.random.key(0)), data={'x': [[1.0, 2.0]], 'y': [1]}, "
    "likelihood='bernoulli')",
    "flax": "from flax import nnx\nimport posterion as po\n"
    "po.network(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), data={'x': [[1.0, 2.0]], 'y': [1]}, likelihood='bernoulli')",
    "flows": FLOWS,
    "plots": PLOTS,
    "pymc": PYMC,
    "serve": SERVE,
    "sklearn": "from posterion.estimators import BayesianLinearRegression as B\n"
    "assert abs(B().fit([[0], [1], [2], [3]], [0, 1, 2, 3.1]).predict([[1.5]])[0] - 1.5) < 0.3",
    "stan": "import posterion as po\nimport httpstan",
    "stream": "import grain, pyarrow, zarr\nimport posterion.data",
    "tables": TABLES,
}
"""For each extra a short program that needs it."""
GATHERED = {"all", "test", "docs", "bench", "dev"}
"""Extras that only gather others, or serve those who work on the package."""


def main() -> None:
    """Build, install, use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ", ".join(sorted(USES))
    parser.add_argument("extras", nargs="*", help=f"extras to install besides, each alone: {names}; or every")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if set(declared) != set(USES) | GATHERED:
        raise SystemExit(f"without a program here, or no longer declared: {set(declared) ^ (set(USES) | GATHERED)}")
    extras = parser.parse_args().extras
    extras = sorted(USES) if extras == ["every"] else extras
    unknown = sorted(set(extras) - set(USES))
    if unknown:
        parser.error(f"there are no extras {unknown}")
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        install_and_use(wheel, "", {"fits": CORE, "says what it lacks": LACKS}, Path(folder) / "core")
        for extra in extras:
            install_and_use(wheel, f"[{extra}]", {extra: USES[extra]}, Path(folder) / extra)


def build(folder: Path) -> Path:
    """The sdist, and from it the wheel; both hold the package whole and nothing that was not meant."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder], ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "-w", folder]
    run([sys.executable, "-m", "pip", "wheel", *options, sdist], folder)
    (wheel,) = folder.glob("*.whl")
    source = ROOT / "src"
    tracked = run(["git", "ls-files", "src"], ROOT).split()
    expected = {Path(name).relative_to("src").as_posix() for name in tracked}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    if held != expected:
        raise SystemExit(f"the wheel differs from {source}: {sorted(held ^ expected)[:10]}")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    print(f"{sdist.name}: {len(names)} files, {wheel.name}: {len(held)} files, {wheel.stat().st_size / 1e6:.1f} MB")
    return wheel


def install_and_use(wheel: Path, extra: str, uses: dict[str, str], place: Path) -> None:
    """An environment with the wheel and one extra, and short programs run in an empty folder of it."""
    began = time.perf_counter()
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    constraints = ["-c", ROOT / "constraints.txt"]
    run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints, f"{wheel}{extra}"],
        place,
    )
    run([python, "-m", "pip", "check"], place)
    empty = place / "empty"
    empty.mkdir()
    for what, program in uses.items():
        run([python, "-I", "-c", program], empty)
        print(f"posterion{extra}: {what}, {time.perf_counter() - began:.0f} s", flush=True)
    shutil.rmtree(place)  # one environment takes up to a gigabyte


def run(command: list, folder: Path) -> str:
    """What it printed; if it fails, all that it said, and the end."""
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))[:200]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
