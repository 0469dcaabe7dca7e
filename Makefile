# Posterion's targets. Each makes its own environment in .venv first, once; only `make` and Python are needed beforehand.

SHELL := /bin/bash
BIN := .venv/bin
WORKERS ?= 2

.PHONY: help setup demo test test-slow test-extras style lint docs bench packages peers

help:
	@echo "make setup   make the environment in .venv (every other target does so by itself)"
	@echo "make demo    fit the demonstration model, write pictures and a report into ./posterion-demo"
	@echo "make test    lint, types and the test suite, but for the tests marked slow"
	@echo "make test-slow  the tests marked slow (a quarter of an hour)"
	@echo "make test-extras  each front end in an environment with its own extra alone (minutes, asks a package index)"
	@echo "make lint    lint, format and types only"
	@echo "make docs    build the documentation into ./site, Stan's tutorial included; fails on an undocumented public name"
	@echo "make packages  build the wheel, install it into an empty environment and use it there (ARGS=\"tables pymc\": extras, too)"
	@echo "make peers   what only benchmarks need: LightGBM, pymc-extras, Stan"
	@echo "make bench   benchmarks against PyMC and NumPyro (minutes)"

# Says nothing and costs milliseconds when .venv is complete and up to date.
setup:
	@bash scripts/setup.sh

demo: setup
	@$(BIN)/posterion demo $(ARGS)

style: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lint: style
	@$(BIN)/pyright

# Below ten minutes on two cores. The tests marked slow run by `make test-slow` and before the benchmarks. The tests of
# a file stay with one worker, so that what one of them compiled is there for the next. Types are checked meanwhile, since
# that takes one core for most of a minute; what was found is said at the end.
test: style
	@found=$$(mktemp); $(BIN)/pyright >$$found 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS); tests=$$?; \
	wait $$types; types=$$?; cat $$found; rm -f $$found; \
	[ $$tests -eq 0 ] && [ $$types -eq 0 ]

test-slow: setup
	@$(BIN)/python -m pytest -m slow -n $(WORKERS) $(ARGS)

test-extras: setup
	@$(BIN)/python tests_extras/run.py $(ARGS)

packages: setup
	@$(BIN)/python scripts/check_packages.py $(ARGS)

docs: peers
	@$(BIN)/python scripts/build_tutorials.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The documentation is in site/index.html."

# What only benchmarks need, the peers above all, is installed when one first runs.
peers: setup
	@$(BIN)/python -c "import sys; from importlib.util import find_spec as find; sys.exit(not all(map(find, ('httpstan', 'lightgbm', 'pymc_extras'))))" \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-build-isolation --editable ".[bench]"

# Without settings for one processor's BLAS that a shell may hold: they would slow the peers down.
bench: test-slow peers
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python benchmarks/notebook.py $(ARGS)
