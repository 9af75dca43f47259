# The environment lives in .venv; PYTHON picks what makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# modules are compiled once, not in each process that imports them
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test docs check lint types clean

# the release of torch that is tested; any from 2.4 on should do
TORCH ?= torch==2.13.0

# uv installs in a quarter of the time; pip does where uv cannot reach a package, since it reads other settings
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'needs Python 3.11 or newer: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile "$(TORCH)"
	($(BIN)/pip install --quiet uv && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-cache -e ".[dev]") || \
		$(BIN)/pip install --quiet --no-compile -e ".[dev]"
	touch $@

## train a mixing network through real effects for about two minutes and write runs/demo/index.html
demo: $(VENV)/.ready
	$(BIN)/blackbox-fx demo

## all tests, doctests and notebooks; in one process more than there are cores, since some wait
test: $(VENV)/.ready
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder \
		-n $$($(BIN)/python -c 'import os; print((os.cpu_count() or 1) + 1)')

## the manual, to be read offline: build/site/index.html
docs: $(VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file .mkdocs.yml

## lint, format, types on Linux, Windows and macOS; `make -j 2 check` does them side by side
check: lint types types-Windows types-Darwin

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/pyright --pythonplatform Linux

# elsewhere only modules that ask the system for something can be wrong where Linux is right
SYSTEM := asyncio|ctypes|errno|faulthandler|fcntl|grp|mmap|msvcrt|multiprocessing|pty|pwd|resource|select|selectors
SYSTEM := $(SYSTEM)|signal|socket|subprocess|termios|tty|_winapi|winreg|winsound
ASKED := os\.(?!PathLike|getpid|environ|fspath|cpu_count|devnull)\w|sys\.platform|time\.(?!perf_counter|monotonic|sleep)\w
types-%: $(VENV)/.ready
	$(BIN)/pyright --pythonplatform $* $$(grep -rlP "^ *(import|from) ($(SYSTEM))\b|\b($(ASKED))" --include=*.py blackbox_fx)

clean:
	rm -rf $(VENV) build/site .pytest_cache .ruff_cache
