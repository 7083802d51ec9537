# make demo and make test are all one needs; the rest are a developer's shortcuts.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
DEMO := demo
# Caches of pip, Snakemake, matplotlib and numba stay inside the clone.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export NUMBA_CACHE_DIR := $(CURDIR)/.cache/numba

.PHONY: demo test lint format lock truth benchmark benchmark-sections report clean

demo: .venv/ready $(DEMO)/study/SIMULATED
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml
	@echo "The report is at $(CURDIR)/$(DEMO)/results/cohort/report.html"

test: .venv/ready lint
	mkdir -p build
	$(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder --basetemp build/pytest

# Snakemake reads the study's tables before it lints the workflow.
lint: .venv/ready $(DEMO)/study/SIMULATED
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

format: .venv/ready
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/snakefmt Snakefile workflow/rules

truth: .venv/ready
	$(BIN)/python tests/truth/run.py --cores $(CORES) --work build/truth $(if $(REAL),--real $(REAL)) $(if $(REUSE),--reuse)

benchmark: .venv/ready
	$(BIN)/python -m livermet benchmark $(DEMO)/results

benchmark-sections: .venv/ready
	$(BIN)/python tests/benchmark/sections.py

report: .venv/ready
	$(BIN)/snakemake --configfile config/demo.yaml --report $(DEMO)/results/cohort/snakemake-report.zip

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --output-file requirements.lock

clean:
	rm -rf $(DEMO) build

.venv/ready: requirements.lock
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $@

$(DEMO)/study/SIMULATED: | .venv/ready
	$(BIN)/python -m livermet simulate --out $(DEMO) --size demo --seed 1
