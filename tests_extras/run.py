"""For each extra an environment that holds Posterion, pytest and that extra alone; its tests are run in it.

python tests_extras/run.py              none (the core), pymc, stan, flax, equinox
python tests_extras/run.py none pymc    some of them
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
EXTRAS = ("none", "pymc", "stan", "flax", "equinox")


def run(extra: str) -> bool:
    """Whether the tests of this extra pass in an environment of their own."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"posterion-{extra}-") as folder:
        environment = Path(folder)
        venv.create(environment / "venv", with_pip=True)
        python = environment / "venv" / "bin" / "python"
        what = str(ROOT) if extra == "none" else f"{ROOT}[{extra}]"
        install = ["-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), what, "pytest"]
        # Only what was installed counts: nothing from this process' own environment.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        clean["POSTERION_CACHE"] = str(environment / "cache")
        subprocess.run([python, *install], check=True, env=clean, cwd=folder)
        tests = HERE / f"test_{extra}.py"
        command = [python, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider", tests]
        passed = subprocess.run(command, check=False, env=clean, cwd=folder).returncode == 0
    print(f"{extra}: {'passed' if passed else 'FAILED'} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return passed


def main() -> int:
    """Run what was asked for; 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help=f"of {', '.join(EXTRAS)}; all if none is named")
    extras = parser.parse_args().extras or EXTRAS
    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(EXTRAS)}")
    return 0 if all([run(extra) for extra in extras]) else 1


if __name__ == "__main__":
    sys.exit(main())
