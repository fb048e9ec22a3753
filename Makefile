# make demo    the playground, end to end, on a Ray head of its own
# make demo-real   a real language model, SmolLM2-135M-Instruct, the same way: a quarter of an hour on two cores with AVX-512, over an hour without
# make test    all tests, in two processes             make lint    ruff, mypy, hadolint
# make chaos   seeded kills of every kind of process, into chaos.json; RUNS=50 SEED=0, REAL=10 for so many with real engines too
# make compare the objectives side by side on the playground, into compare/; COMPARE="--seeds 1 --etas 5" for less
# make env     the environment (.venv) alone
# make bench   the speed ratios, into bench.json; BENCH="judge scale" for some of them
# make lock    resolve the pinned CPU stack anew (requirements/cpu.txt), with make lock-gpu the GPU stack (requirements/gpu.txt)
# make docs    the documentation site, into site/
# make build   wheel and sdist, into dist/
# PYTHON=python3.12 chooses the Python of the environment: 3.11, 3.12 or 3.13

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-real test lint bench chaos compare env lock lock-gpu docs build

demo: .venv/.installed
	$(BIN)/python jobs/demo.py

demo-real: .venv/.installed
	$(BIN)/python jobs/demo.py --recipe smollm2-135m-instruct

test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/*.Dockerfile

bench: .venv/.installed
	$(BIN)/python -m jobs.bench $(BENCH)

RUNS ?= 50
SEED ?= 0
REAL ?= 0

chaos: .venv/.installed
	$(BIN)/python -m tests.cluster.chaos --runs $(RUNS) --seed $(SEED) --real $(REAL)

compare: .venv/.installed
	$(BIN)/python -m jobs.compare $(COMPARE)

env: .venv/.installed

.venv/.installed: requirements/cpu.txt requirements/install.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python requirements/install.py requirements/cpu.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

docs: .venv/.installed
	$(BIN)/mkdocs build --strict

build: .venv/.installed
	$(BIN)/python -m build --no-isolation

lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python requirements/lock.py requirements/cpu.txt
	rm -rf .venv-lock

lock-gpu:
	rm -rf .venv-lock && python3.12 -m venv .venv-lock
	.venv-lock/bin/python requirements/lock.py requirements/gpu.txt
	rm -rf .venv-lock
