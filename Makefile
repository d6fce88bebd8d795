# The front door. `make help` says what there is.
BUILD      ?= build
ASAN       ?= build-asan
MESON_ARGS ?=
PREFIX     ?= /usr/local

.PHONY: help demo build test lint bench install deploy clean coverage fuzz

help:
	@echo "make demo     install what is missing, build, measure a small model"
	@echo "make build    the release build: build/lem"
	@echo "make test     build with sanitizers and run every test"
	@echo "make lint     layers, format, clang with warnings as errors"
	@echo "make bench    benchmarks against their bars"
	@echo "make fuzz     each fuzz target for SECONDS (default 30) with libFuzzer"
	@echo "make coverage line coverage of the unit tests"
	@echo "make deploy   lem with its libraries in deploy/bundle, to be mounted into containers"
	@echo "make install  into PREFIX (default /usr/local)"

demo: build
	$(BUILD)/lem experiment configs/examples/quickstart.yaml

build:
	@./setup
	@tools/configure $(BUILD) --buildtype=release -Dwerror=false $(MESON_ARGS)
	@ninja --quiet -C $(BUILD)

test:
	@./setup --tests
	@tools/configure $(BUILD) --buildtype=release -Dwerror=false $(MESON_ARGS)
	@ninja --quiet -C $(BUILD)
	@tools/configure $(ASAN) -Dtests=true -Db_sanitize=address,undefined -Db_lundef=false
	@ninja --quiet -C $(ASAN)
	@tools/run-tests $(ASAN) $(BUILD)

lint:
	@./setup --tests
	@tools/check-layers
	@tools/check-style
	@CC=clang tools/configure build-clang -Dtests=true
	@ninja --quiet -C build-clang

bench: build
	@tools/run-benches $(BUILD)

fuzz:
	@./setup --tests
	@CC=clang tools/configure build-fuzz -Dtests=true -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
	@ninja --quiet -C build-fuzz
	@tools/run-fuzz build-fuzz $(or $(SECONDS),30)

coverage:
	@./setup --tests
	@tools/configure build-cov -Dtests=true -Db_coverage=true
	@ninja -C build-cov && meson test -C build-cov -q && ninja -C build-cov coverage-text
	@tail -3 build-cov/meson-logs/coverage.txt

install: build
	@meson install -C $(BUILD) --no-rebuild

deploy: build
	@tools/make-bundle $(BUILD)

clean:
	rm -rf deploy/bundle build build-asan build-clang build-fuzz build-cov
