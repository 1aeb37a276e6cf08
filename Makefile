# Each target sets up what it needs in build/venv; `make demo` and `make test` work on a fresh
# machine (as root they install missing Debian packages, otherwise they name them).
# PYTHON=/path/to/python3 chooses the interpreter, TESTS=... what pytest runs, BUDGET=1 compares the
# skipped tests with tests/skip_budget.txt. bench: QUICK=1, RESULTS=directory; soak: LAUNCHES=,
# REUSE=tenancy|never, DIRTY=n, RESULTS= (benchmarks/README.md). vm: KERNELS="6.1 6.12", DOCS=1.

.PHONY: all build demo test vm lint format sanitize bench soak wheel clean
.DEFAULT_GOAL := build

all: build

build:
	@scripts/bootstrap.sh run

demo:
	@scripts/demo.sh

test:
	@scripts/bootstrap.sh test
	@scripts/run-tests.sh $(if $(BUDGET),--budget) $(TESTS)

vm:
	@scripts/vm.sh $(if $(DOCS),--docs) $(KERNELS)

lint:
	@scripts/bootstrap.sh dev
	@scripts/lint.sh

format:
	@scripts/bootstrap.sh dev
	@build/venv/bin/ruff format .
	@build/venv/bin/ruff check --fix .
	@clang-format -i $$(find csrc examples scripts tests benchmarks -name '*.[ch]')

sanitize:
	@scripts/bootstrap.sh test
	@scripts/sanitize.sh $(TESTS)

bench:
	@scripts/bench.sh all $(if $(QUICK),--quick) $(if $(RESULTS),--out "$(RESULTS)")

soak:
	@scripts/bench.sh soak $(if $(LAUNCHES),--launches $(LAUNCHES)) $(if $(REUSE),--reuse $(REUSE)) \
		$(if $(DIRTY),--dirty $(DIRTY)) --json "$(or $(RESULTS),build/bench/results)/soak.json"

wheel:
	@scripts/bootstrap.sh run
	@build/venv/bin/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

clean:
	@rm -rf build dist oxgen.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@rm -f oxgen/_launcher oxgen/_native*.so
	@find oxgen tests scripts csrc -name __pycache__ -type d -exec rm -rf {} +
