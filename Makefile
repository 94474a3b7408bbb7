# Thin names for what CMake and the scripts do. `make demo` and `make test` set everything up.
.PHONY: setup build demo serve test check-sanitizers bench fmt lint clean

JOBS ?= $(shell nproc)

setup:
	@scripts/setup.sh

build: setup
	@cmake --preset release > build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
	@rm -f build-configure.log
	cmake --build build/release -j $(JOBS) --target sluice

# Builds, serves the bundled model, asks it a few things over HTTP, checks the answers.
demo: build
	.venv/bin/python scripts/demo.py build/release/src/cli/sluice

# Serves the bundled model until Ctrl-C and prints what to try.
serve: build
	@scripts/serve.sh build/release/src/cli/sluice

# Everything that is checked before a change lands.
test: setup
	@scripts/test.sh $(JOBS)

# The same tests under ASan+UBSan, and the concurrent ones under TSan. Slow: not part of `make test`.
check-sanitizers: setup
	@scripts/check_sanitizers.sh $(JOBS)

# Kernel benches and end-to-end figures, beside this machine's ceilings.
bench: setup
	@scripts/bench.sh $(JOBS)

fmt:
	git ls-files '*.h' '*.cpp' '*.inc' '*.cu' '*.cuh' | xargs clang-format -i

lint:
	@scripts/lint.sh $(JOBS)

clean:
	rm -rf build
