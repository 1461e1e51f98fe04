# The two commands of the README, and what a developer runs beside them.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN = .venv/bin
OUTPUT ?= runs/demo

.PHONY: demo test thorough slow faults pythons oldest lint docs clean

demo: .venv/installed
	$(BIN)/autometa compare examples/demo.toml --output $(OUTPUT)

test: .venv/installed-dev
	$(BIN)/pytest -n 2 --dist worksteal

thorough: .venv/installed-dev
	$(BIN)/pytest -m 'thorough and not slow' -n 2 --dist worksteal

slow: .venv/installed-dev
	$(BIN)/pytest -m slow -n 2 --dist worksteal

# Every fault on real processes, five times; the table goes to examples/benchmarks/faults/.
faults: .venv/installed-dev
	$(BIN)/python examples/benchmarks/faults/faults.py

# TESTS='-n 1 tests/test_table.py' runs a part; VENVS=/elsewhere keeps the environments, gigabytes each, elsewhere.
pythons:
	.ci/pythons

oldest:
	.ci/pythons oldest

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed-dev
	$(BIN)/python -W error -m pdoc --docformat numpy --output-directory build/docs autometa autometa_plugins

clean:
	rm -rf .venv .venvs build runs

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "autometa needs Python 3.11 or later; set PYTHON=/path/to/python."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
