# Two commands do everything: `make dry-run` and `make test`.
# The rest takes longer: `make slow`, `make faults`, `make soak`, `make kills`, `make endurance`, `make benchmarks`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: dry-run test lint types imports unit slow faults soak kills endurance benchmarks clean

dry-run: $(INSTALLED)
	$(BIN)/insitu-ct dry-run

test: lint types imports unit

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright

imports: $(INSTALLED)
	$(BIN)/lint-imports

unit: $(INSTALLED)
	$(BIN)/pytest -m "not slow"

# every test that the default suite leaves out, soak, kills and endurance apart
slow: $(INSTALLED)
	$(BIN)/pytest --hypothesis-profile=search tests/sim/test_motion.py tests/sim/test_fault_plans.py tests/plans/test_timing.py
	$(BIN)/pytest -m slow --timeout=0 --ignore=tests/system/test_soak.py --ignore=tests/system/test_kills.py --ignore=tests/system/test_endurance.py

# each fault at each phase of an experiment
faults: $(INSTALLED)
	$(BIN)/pytest -m system --timeout=0 tests/system/test_fault_matrix.py

# random faults and kills; SOAK_RUNS=20 SOAK_SEED=1 unless set
soak: $(INSTALLED)
	$(BIN)/pytest -s -m slow --timeout=0 tests/system/test_soak.py

# the power cut at random moments of ten experiments; KILLS=100 KILLS_SEED=1 unless set
kills: $(INSTALLED)
	$(BIN)/pytest -s -m slow --timeout=0 tests/system/test_kills.py

# what two hundred half-cycles pile up; HALF_CYCLES=200 unless set
endurance: $(INSTALLED)
	$(BIN)/pytest -s -m slow --timeout=0 tests/system/test_endurance.py

# ratios in one run on one machine; JSON beside the table
benchmarks: $(INSTALLED)
	$(BIN)/python -m benchmarks.reconstruction
	$(BIN)/python -m benchmarks.measurement
	$(BIN)/python -m benchmarks.simulation
	$(BIN)/python -m benchmarks.guard_latency

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "insitu-ct needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
