# One entry for people and for CI. `make run` needs cargo and a C compiler, nothing else.

STEP := tests/step.sh
CARGO := cargo
SEED ?= 1
SECONDS := 60
# Instructions are counted where the budgets for them were.
BUDGETS := $(if $(filter x86_64,$(shell uname -m)),budgets)

.PHONY: help run build image seccomp lint test test-slow budgets budgets-write autobahn e2e \
	proxies container million sim mutants fuzz bench bench-quick scale audit deny clean

help:
	@sed -n 's/^## //p' Makefile

## run          start a demo server with a page to play with
run:
	$(CARGO) run --release --locked -- start --demo

## build        the release binary, target/release/slapback
build:
	@$(STEP) build $(CARGO) build --release --locked

## image        the container image, slapback (needs Docker)
image:
	docker build -f deploy/Dockerfile -t slapback .

## seccomp      write deploy/seccomp.json anew
seccomp:
	@$(STEP) install tests/install.sh container
	deploy/seccomp.sh > target/seccomp.json && mv target/seccomp.json deploy/seccomp.json

## lint         format, clippy, links in the documentation, licences and sources of what is linked
lint:
	@$(STEP) 'install rust' tests/install.sh rust
	@$(STEP) format $(CARGO) fmt --all --check
	@$(STEP) clippy $(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS='-D warnings' $(STEP) documentation \
		$(CARGO) doc --workspace --no-deps --locked
	@$(STEP) 'supply chain' $(CARGO) test --locked --test supply

## test         unit, wire and simulation tests, budgets, client libraries, Autobahn; and the sum
test:
	@$(STEP) install tests/install.sh
	@tests/run.sh rust $(BUDGETS) e2e autobahn

## test-slow    the same and more of it: long properties, mutants, proxies, the container, a million
test-slow: test mutants proxies container million
	@PROPTEST_CASES=3000 SLAPBACK_SIM_SEEDS=10000 $(STEP) 'slow tests' \
		$(CARGO) test --workspace --locked -- --include-ignored

## budgets      instructions of the hot paths, held to bench/budgets/budgets.tsv (needs valgrind)
budgets:
	@$(STEP) install tests/install.sh rust budgets
	@tests/run.sh budgets

## budgets-write  what they take now is their budget from now on
budgets-write:
	@$(STEP) install tests/install.sh rust budgets
	CARGO_INCREMENTAL=0 $(CARGO) run --release --locked -p slapback-budgets -- write

## autobahn     RFC 6455 conformance on both drivers
autobahn:
	@$(STEP) install tests/install.sh rust autobahn
	@tests/run.sh autobahn

## e2e          pusher-js, laravel-echo (Node, Chromium) and Pusher's libraries against the binary
e2e:
	@$(STEP) install tests/install.sh rust e2e
	@tests/run.sh e2e

## proxies      the same behind nginx, Caddy and HAProxy, with TLS
proxies:
	@$(STEP) install tests/install.sh rust proxies
	@tests/run.sh proxies

## container    the image, built and run without Docker, and the other files of deploy/ (as root)
container:
	@$(STEP) install tests/install.sh rust container
	@tests/run.sh container

## million      Laravel, Redis, server, Chromium: a million messages, each counted in the page
million:
	@$(STEP) install tests/install.sh rust e2e
	@tests/run.sh million

## sim          replay one seed of the simulations with a trace: make sim SEED=7
sim:
	SLAPBACK_SIM_SEED=$(SEED) $(CARGO) test --locked --test sim --test bus_sim -- --nocapture

## mutants      plant known faults; the simulation must find each
mutants:
	@$(STEP) mutants tests/mutants/run.sh

## fuzz         everything that reads what others send against libFuzzer: make fuzz SECONDS=300
fuzz:
	@$(STEP) 'install cargo-fuzz' sh -c 'command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz'
	@$(STEP) fuzz fuzz/run.sh $(SECONDS)

## bench        every scenario of bench/, a quarter of an hour on a quiet machine
bench: build
	@$(STEP) install tests/install.sh rust bench
	@$(STEP) bench $(CARGO) run --release --locked -p slapback-bench

## bench-quick  the same, shorter and rougher: two minutes
bench-quick: build
	@$(STEP) install tests/install.sh rust bench
	@$(STEP) 'bench quick' $(CARGO) run --release --locked -p slapback-bench -- --quick

## scale        400,000 sockets at once to 22 servers: five minutes and 6 GB of memory
scale: build
	@$(STEP) install tests/install.sh rust bench
	@$(STEP) scale $(CARGO) run --release --locked -p slapback-bench -- scale

## audit        known vulnerabilities, by hand (needs cargo-deny and its database)
audit:
	$(CARGO) deny check advisories

## deny         licences, bans and sources as cargo-deny sees them, by hand
deny:
	$(CARGO) deny check bans licenses sources

## clean        remove everything that was built or installed here
clean:
	$(CARGO) clean
	rm -rf tests/e2e/node_modules bench/uws/node_modules
