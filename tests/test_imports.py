"""Laws of the imports: what may know what (docs/developers/architecture.md), and what `import posterion` loads.

The imports are read from the source, so that a lazy import inside a function counts as much as one at the top.
"""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

BASE = ("_typing", "_optional", "_files", "errors", "distributed")
PUBLIC = "posterion"
"""Stands for what users import: the names of ``posterion.__all__`` and the public modules."""
_PUBLIC_NAMES = ("callbacks", "data", "decisions", "diagnostics", "errors", "estimators", "plots", "serving")
PUBLIC_MODULES = tuple(f"posterion.{name}" for name in _PUBLIC_NAMES)


def read_table() -> dict[str, tuple[str, ...]]:
    """Package -> what of ours it may import besides itself, from the page that tells developers."""
    page = (ROOT / "docs/developers/architecture.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", page, re.MULTILINE)
    table = {}
    for packages, allowed in rows:
        may = re.findall(r"`([\w.]+)`", allowed.partition(";")[0])
        may += BASE if re.match("base\\b", allowed) else ()
        may += [PUBLIC] if re.match("public\\b", allowed) else ()
        table |= dict.fromkeys(re.findall(r"`([\w.]+)`", packages), tuple(may))
    return table


MAY_IMPORT = read_table()

# Third-party packages a package may import, where that is part of its meaning; the others may use any that is declared.
FOREIGN = {
    "families": {"equinox", "flowjax", "jax", "jaxtyping", "numpy", "numpyro", "optax", "scipy"},
    "decisions": {"jaxtyping", "numpy", "scipy", "sklearn", "xarray"},
    "plots": {"jaxtyping", "matplotlib", "numpy", "xarray"},
}

# Imported with a package that is declared, as a part of it.
COMES_WITH = {"jaxlib": "jax", "pytensor": "pymc", "pandas": "xarray", "pydantic": "fastapi", "starlette": "fastapi"}


@dataclass(frozen=True)
class Import:
    """One imported module, with where it is written."""

    module: str
    name: str | None
    importer: str
    line: int
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}" + (f".{self.name}" if self.name else "")


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(), str(path))
    inside = {id(n) for part in ast.walk(tree) if _is_lazy(part) for n in ast.walk(part)}
    importer = module_name(path)
    for node in ast.walk(tree):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, importer, node.lineno, at_top)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                yield Import(node.module or "", alias.name, importer, node.lineno, at_top)
        elif isinstance(node, ast.Call) and _called(node) in ("import_optional", "import_module"):
            if node.args and isinstance(node.args[0], ast.Constant):
                yield Import(node.args[0].value, None, importer, node.lineno, at_top)


def _is_lazy(node: ast.AST) -> bool:
    """Whether what is inside runs later, or never."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.Lambda)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


DISTRIBUTIONS = importlib.metadata.packages_distributions()
MODULES = sorted(SOURCE.glob("posterion/**/*.py"))
IMPORTS = [found for path in MODULES for found in imports_of(path)]
NAMES = {module_name(path) for path in MODULES}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rule_for(module: str) -> str | None:
    """The longest entry of the table that covers a module of ours."""
    return max((p for p in MAY_IMPORT if within(module, f"posterion.{p}")), key=len, default=None)


def imported_module(found: Import) -> str:
    """The module meant: ``from posterion.target import layout`` is ``posterion.target.layout``."""
    deeper = f"{found.module}.{found.name}"
    return deeper if found.name and deeper in NAMES else found.module


def allowed(found: Import, public_names: set[str]) -> bool:
    package = rule_for(found.importer)
    module = imported_module(found)
    if package and PUBLIC in MAY_IMPORT[package]:
        if module in PUBLIC_MODULES:
            return True
        if found.module == PUBLIC:
            return found.name is None or found.name in public_names
    if package is None:  # posterion/__init__.py gathers the public names of all
        return found.importer == "posterion"
    if within(module, f"posterion.{package}"):
        return True
    return any(within(module, f"posterion.{p}") for p in MAY_IMPORT[package])


def public_names() -> set[str]:
    tree = ast.parse((SOURCE / "posterion/__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    raise AssertionError("posterion/__init__.py has no __all__")


def distribution_of(module: str) -> set[str]:
    top = module.partition(".")[0]
    return {_normal(d) for d in (*DISTRIBUTIONS.get(top, []), COMES_WITH.get(top, top))}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {_normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in requirements}


def wanted_by_users() -> set[str]:
    """The core dependencies and those of the extras that are not for developers."""
    project = PYPROJECT["project"]
    ours = ("bench", "test", "docs", "dev")
    extras = [rows for name, rows in project["optional-dependencies"].items() if name not in ours]
    return declared(project["dependencies"]).union(*map(declared, extras)) - {"posterion"}


def is_foreign(found: Import) -> bool:
    top = found.module.partition(".")[0]
    return top != "posterion" and top not in sys.stdlib_module_names


def test_the_table_is_read():
    assert MAY_IMPORT["families"] == ("_typing", "_optional", "errors", "target.layout")
    assert MAY_IMPORT["errors"] == BASE
    assert set(MAY_IMPORT["frontends"]) == {*BASE, "compilation", "target"}
    assert set(MAY_IMPORT["cli"]) == {PUBLIC, "_optional", "demo", "report", "serving", "tabular"}
    assert len(MAY_IMPORT) > 20


def test_every_module_is_in_the_table():
    strangers = [name for name in NAMES if name != "posterion" and rule_for(name) is None]
    assert not strangers, f"these modules have no row in the table: {strangers}"


def test_imports_of_ours_follow_the_table():
    names = public_names()
    broken = [str(i) for i in IMPORTS if within(i.module, "posterion") and not allowed(i, names)]
    assert not broken, "\n".join(["imports against the table in docs/developers/architecture.md:", *broken])


def test_the_table_refuses_what_it_should():
    """The test above can fail: a family that looks at targets, a picture that looks at fits, a report at insides."""
    for importer, module, name in [
        ("families.mean_field", "posterion.target.target", "AbstractTarget"),
        ("families.mean_field", "posterion.target", "Layout"),
        ("plots.surface", "posterion.posterior", "Posterior"),
        ("optim.loop", "posterion.target", "Layout"),
        ("data.batches", "posterion.target.target", "RowPlan"),
        ("report.page", "posterion.posterior.store", "load"),
        ("report.page", "posterion", "_typing"),
        ("target.target", "posterion.families", "MeanField"),
    ]:
        assert not allowed(Import(module, name, f"posterion.{importer}", 1, True), {"fit"}), (importer, module, name)
    for importer, module, name in [
        ("families.mean_field", "posterion.target.layout", "Layout"),
        ("methods.advi", "posterion.optim.algorithm", "Algorithm"),
        ("report.page", "posterion", "fit"),
        ("report.page", "posterion", None),
    ]:
        assert allowed(Import(module, name, f"posterion.{importer}", 1, True), {"fit"}), (importer, module, name)


def test_foreign_imports_at_the_top_are_core_dependencies():
    """At the top of a module only what every installation has, but for the leaves that are loaded lazily themselves."""
    core = declared(PYPROJECT["project"]["dependencies"])
    leaves = ("frontends", "plots", "cli", "estimators", "serving", "demo")
    broken = [
        str(i)
        for i in IMPORTS
        if is_foreign(i) and i.at_top and rule_for(i.importer) not in leaves and not distribution_of(i.module) & core
    ]
    assert not broken, "\n".join(["optional or undeclared packages imported at the top of a module:", *broken])


def test_foreign_imports_are_declared():
    known = wanted_by_users()
    broken = [str(i) for i in IMPORTS if is_foreign(i) and not distribution_of(i.module) & known]
    assert not broken, "\n".join(["packages imported but not declared in pyproject.toml:", *broken])


def test_declared_packages_are_imported():
    """No dependency is asked of users that nothing uses, but for two that the design counts as core from the start."""
    used = set().union(*(distribution_of(i.module) for i in IMPORTS if is_foreign(i)))
    wanted = wanted_by_users()
    announced = {"joblib", "numpyro"}  # work over processes, and the distributions of our own networks
    # Imported by JAX, which does not declare them, and by uvicorn if it is there; a compiler is never imported at all.
    indirect = {"filelock", "flatbuffers", "httptools", "httpstan"}
    assert wanted - used <= announced | indirect, f"declared but never imported: {sorted(wanted - used)}"


@pytest.mark.parametrize("package", sorted(FOREIGN))
def test_packages_of_narrow_means_keep_to_them(package):
    broken = [
        str(i)
        for i in IMPORTS
        if is_foreign(i) and rule_for(i.importer) == package and i.module.partition(".")[0] not in FOREIGN[package]
    ]
    assert not broken, "\n".join(broken)


def test_import_loads_only_what_it_needs():
    """`import posterion` in a fresh process loads no modelling package, nothing for pictures, and nothing slow."""
    code = "import json, sys, posterion; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    optional = {
        *("pymc", "pytensor", "matplotlib", "arviz_plots", "sklearn", "typer", "click", "flax", "equinox"),
        *("IPython", "seaborn", "jupytext", "pytest", "pyarrow"),
    }
    slow = {"arviz_base", "arviz_stats", "pandas", "rich", "scipy.optimize", "scipy.special", "scipy.stats", "xarray"}
    assert sorted((optional | slow) & set(json.loads(run.stdout))) == []


def test_import_changes_no_global_flag():
    code = (
        "import jax, json; before = dict(jax.config.values); import posterion; "
        "print([name for name, value in jax.config.values.items() if before[name] != value])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.strip() == "[]"
