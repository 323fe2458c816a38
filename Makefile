# make demo, make test: all the set-up a fresh Debian machine needs, then the thing itself.
# make conformance: every feature of Triton's language, by dtype and VLEN. make fuzz: random programs and functions.
# make ulp: the accuracy of vector math (docs/vecmath.md).
# make lint, make long: style and types; the sweeps that run before an issue is closed.
# make bench: instructions, modelled cycles and compile time against other compilers (docs/benchmarks.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT := qemu-user libc6-riscv64-cross python3-venv
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
JOBS ?= 2

# What `make bench` has besides: a scheduling model of the core, and compilers to compare with.
BENCH_APT := llvm-22 clang-22 libomp-22-dev gcc-riscv64-linux-gnu g++-riscv64-linux-gnu

.PHONY: demo test lint long bench setup system model conformance operators fuzz ulp

demo: setup
	$(BIN)/python examples/demo.py

test: setup model lint
	$(BIN)/python -m pytest -n $(JOBS) tests

long: setup
	$(BIN)/python -m pytest -n $(JOBS) -m long tests
	for dtype in float32 float16 bfloat16; do $(BIN)/python -m torch_rvv accuracy --dtype $$dtype || exit 1; done
	$(BIN)/python -m torch_rvv accuracy --training --models gpt2,bert,resnet
	for vlen in 128 512 1024; do $(BIN)/python -m torch_rvv accuracy --vlen $$vlen || exit 1; done

conformance: setup
	$(BIN)/python -m tests.conformance --jobs $(JOBS)

operators: setup
	$(BIN)/python -m tests.conformance --table operators --vlen 256 --jobs $(JOBS)

fuzz: setup
	$(BIN)/python -m tests.fuzz --count 2000 --jobs $(JOBS)
	$(BIN)/python -m tests.fuzz.graphs --count 1000 --jobs $(JOBS)

bench: setup
	@command -v llvm-mca-22 >/dev/null && command -v clang++-22 >/dev/null && command -v riscv64-linux-gnu-g++ >/dev/null \
	  || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y --no-install-recommends $(BENCH_APT); }
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[test,bench]"
	$(BIN)/python -m torch_rvv.benchmarks.peers.openblas
	mkdir -p build
	for suite in kernels gemm models compile; do \
	  $(BIN)/python -m torch_rvv bench --suite $$suite --json build/bench-$$suite.json --html build/bench-$$suite.html || exit 1; \
	done

ulp: setup
	$(BIN)/python -m torch_rvv.benchmarks.ulp --write

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: system $(VENV)/.installed

system:
	@command -v qemu-riscv64 >/dev/null && [ -e /usr/riscv64-linux-gnu/lib/ld-linux-riscv64-lp64d.so.1 ] \
	  && $(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y --no-install-recommends $(APT); }

# The scheduling model that some tests of the benchmarks need; they are skipped where Debian does not have it.
model:
	@command -v llvm-mca-22 >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y --no-install-recommends llvm-22; } \
	  || echo "no llvm-22 here: the tests of modelled cycles are skipped"

# torch first and alone: its CPU build is a version of its own, and nothing after it may ask for another.
$(VENV)/.installed: setup.py pyproject.toml
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q "setuptools>=77" wheel
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[test]"
	touch $@
