# make demo      a report on real digits: FedAvg beside AutoFLIP under bad clients
# make test      style, types, layers, tests
# make bench     how long things take, as ratios that other machines share; make bench-compare BASE=file RATIO=1.5
# make golden    the kept numbers of every attack against every aggregator, where they are missing or have changed
# make docs      the documentation as a site, in site/, to be read with or without a server, and without network
# make catalogue what `list`, `schema` and shells know of plug-ins and options, written anew from the classes
# make board     this project's leaderboard, entries and page: every built-in defence (docs/leaderboard.md), an estimated 40 minutes on two cores
# make install   what `make test` needs
# make lock      .ci/locked.txt anew: every package with its hashes (takes uv)
# All install what they need into .venv first, once: the demo only what runs. PYTHON=python3.12 picks the interpreter.

PYTHON ?= python3
BIN    := .venv/bin
RUNS   := .venv/.installed
TESTS  := .venv/.test-tools
# What installs, and a file of pins: INSTALLER="uv pip install --torch-backend=cpu" CONSTRAINTS=.ci/oldest.txt
INSTALLER   ?= $(BIN)/python -m pip install --disable-pip-version-check --quiet
CONSTRAINTS ?=
# Or a lock, for `make install`: LOCK=.ci/locked.txt
LOCK ?=
# uv installs into VIRTUAL_ENV. CrypTen asks for the retired name of scikit-learn, whose installer refuses without the other.
INSTALL := VIRTUAL_ENV=$(CURDIR)/.venv SKLEARN_ALLOW_DEPRECATED_SKLEARN_PACKAGE_INSTALL=True \
           $(INSTALLER) $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# Tests run side by side, one thread each. (The program itself makes numbers in one thread, whatever is set here.)
export OMP_NUM_THREADS ?= 1
# Extra arguments for pytest: make test ARGS="-k store"
ARGS ?=
# As many tests side by side as there are cores (which nproc takes from OMP_NUM_THREADS, if that is set), eight at most: each
# keeps 1.5 GB.
JOBS ?= $(shell n=$$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 2); [ $$n -lt 8 ] && echo $$n || echo 8)
# What one run compiles the next one reads: to rewrite the assertions of all tests takes a worker ten seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=20
# make bench-compare: the slow-down that fails, and the run to compare with
RATIO ?= 1.5
BASE ?=

.PHONY: install lock board catalogue docs golden demo test test-all check style types bench bench-compare format clean
.DEFAULT_GOAL := demo

install: $(TESTS)

demo: $(RUNS)
	@$(BIN)/python -m autoflip_secure demo

# Types and layers take one core a minute: they are checked while the tests run, and their findings stand at the end.
BESIDE = log=$$(mktemp); $(MAKE) --no-print-directory types >$$log 2>&1 & types=$$!; trap 'kill $$types 2>/dev/null' INT TERM; \
	$(1); tests=$$?; wait $$types; types=$$?; cat $$log; rm -f $$log; exit $$((tests != 0 || types != 0))

test: style
	@$(call BESIDE,$(PYTEST) -m "not slow" $(ARGS))

test-all: style
	@$(call BESIDE,$(PYTEST) -o timeout=1800 $(ARGS))

check: style types

style: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TESTS)
	$(BIN)/mypy
	$(BIN)/lint-imports

# Saved under .benchmarks, in processor seconds and in units of a reference workload that runs beside each benchmark.
bench: $(TESTS)
	$(BIN)/python -m pytest benchmarks -q --benchmark-only --benchmark-quiet --benchmark-autosave -s $(ARGS)
	@$(BIN)/python benchmarks/compare.py --show

# The last two runs, or the last one and BASE=file; fails when something became slower than RATIO times.
bench-compare: $(TESTS)
	@$(BIN)/python benchmarks/compare.py --ratio $(RATIO) $(if $(BASE),--base $(BASE))

catalogue: $(TESTS)
	@$(BIN)/python -m autoflip_secure.scenarios.catalogue.derive
	@$(BIN)/python -m autoflip_secure.scenarios.catalogue.defenses_page
	@$(BIN)/python docs/tools/reference.py

docs: $(RUNS)
	@$(BIN)/python -c 'import material' 2>/dev/null || $(INSTALL) -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html"

board: $(RUNS)
	@$(BIN)/python -m autoflip_secure sweep board-digits-1 --out runs/board-digits-1 --no-report
	@$(BIN)/python -m autoflip_secure leaderboard runs/board-digits-1 --out runs/board-digits-1/board.html \
	  --entries docs/board/board-digits-1 --markdown docs/leaderboard.md

golden: $(TESTS)
	@$(BIN)/python tests/helpers/golden_table.py

format: $(TESTS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# For every Python and system that pyproject.toml allows, held to the versions tested, without the address of any index.
lock:
	@command -v uv >/dev/null 2>&1 || { echo "There is no 'uv', which writes the lock; install it: pip install uv" >&2; exit 2; }
	@SKLEARN_ALLOW_DEPRECATED_SKLEARN_PACKAGE_INSTALL=True uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	  --extra secure --extra test --constraints .ci/tested.txt --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" --output-file .ci/locked.txt pyproject.toml

clean:
	rm -rf .venv build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: what runs, with all that `demo` and the README's commands need; and the tools of tests, lint and types.
define ENVIRONMENT
test -x $(BIN)/python || { \
  command -v $(PYTHON) >/dev/null 2>&1 || { echo "There is no '$(PYTHON)'; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }; \
  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer is needed; name one: make PYTHON=python3.11" >&2; exit 2; }; \
  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv), or name another Python: make PYTHON=…" >&2; exit 2; }; \
  rm -rf .venv && $(PYTHON) -m venv .venv; }
endef

$(RUNS): pyproject.toml
	@$(ENVIRONMENT)
	@echo "Installing into .venv (a few minutes, several GB, once) …"
	@$(INSTALL) -e '.[secure]'
	@touch $@

$(TESTS): pyproject.toml
	@$(ENVIRONMENT)
	@echo "Installing into .venv, with what tests need (a few minutes, several GB, once) …"
	@$(if $(LOCK),$(INSTALL) --require-hashes -r $(LOCK) && $(INSTALL) --no-deps -e .,$(INSTALL) -e '.[secure,test]')
	@touch $(RUNS) $@
