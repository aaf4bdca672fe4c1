# Two commands on a fresh machine: `make demo` and `make test`. Both set up what they need first.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: help demo test test-slow test-runtimes check doctor clean
help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST) | expand -t 20

demo:  ## lose and regain every sensor on the live graph; leaves demo_out/report.html
	@$(PYTHON) tools/bootstrap.py demo
	$(BIN)/robust-perception demo $(ARGS)

# Live graphs have deadlines and get the machine to themselves; all other tests share its cores, a thread each.
# Pytest ends with 5 where ARGS leave a lane without tests.
test: check  ## ruff, mypy and the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not ros" -n auto --dist loadfile $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest -m "not slow and ros" $(ARGS) || [ $$? = 5 ]

test-slow:  ## training, build and soak tests
	@$(PYTHON) tools/bootstrap.py test
	$(BIN)/python -m pytest -m slow $(ARGS)

# A process of their own: these bring threads and allocators that the graph's nodes do not live with either.
test-runtimes:  ## the engine's tests with OpenVINO and TensorRT-RTX installed
	@$(PYTHON) tools/bootstrap.py runtimes
	$(BIN)/python -m pytest test/engine test/benchmarking test/exporting $(ARGS)

check:  ## ruff and mypy alone
	@$(PYTHON) tools/bootstrap.py test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

doctor:  ## what this machine has and lacks
	@$(PYTHON) tools/bootstrap.py demo
	$(BIN)/robust-perception doctor

clean:  ## remove the environment, the caches and what was built
	rm -rf .venv .cache build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
