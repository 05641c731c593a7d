# Every target works on a machine that has Python, git and make, root or not.
PYTHON ?= python3
UV := .venv/bin/uv
BIN := .venv/bin

.PHONY: setup demo test check bench soak qualify lock agents clean

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("CommandCenter needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@# uv comes last, so without it (or with a Python that is gone) an earlier setup was not finished.
	@test -x $(UV) && $(BIN)/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear .venv || { echo "hint: on Debian and Ubuntu, 'python3 -m venv' is in the package python3-venv" >&2; rm -rf .venv; exit 1; }
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -o '^uv==[0-9.]*' requirements.txt)
	@$(UV) pip sync --quiet --compile-bytecode --require-hashes --allow-empty-requirements requirements.txt --python $(BIN)/python
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable . --python $(BIN)/python
	@$(BIN)/python -m compileall -q src
	@touch $@

demo: setup
	@$(BIN)/python -m commandcenter.testing.demo

# One more than there are processors: much of the time a test waits for something.
TESTERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

test: setup
	$(BIN)/pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) --no-print-directory test

bench: setup
	@$(BIN)/python -m commandcenter.testing.bench

# For example: make soak SOAK="--seed 7 --only 12"
soak: setup
	@$(BIN)/python -m commandcenter.testing.soak $(SOAK)

# A round of every mode; for example: make qualify QUALIFY="--rounds 10 --kill-every 2 --log log.md"
qualify: setup
	@$(BIN)/commandcenter qualify --own-engines $(QUALIFY)

agents: setup
	@$(UV) pip install --quiet --require-hashes -r requirements-agents.txt --python $(BIN)/python

lock:
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --extra dev -o requirements.txt pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url -c requirements.txt -o requirements-agents.txt requirements-agents.in

clean:
	rm -rf .venv .demo .bench-*
