# AstraLink: `make` lists the targets. Every recipe is POSIX sh; set-up lives in .ci/set_up.sh.

.POSIX:
.SUFFIXES:

VENV = .venv
BIN = $(VENV)/bin
CLIENTS = tests/clients
INTEROP = tests/interop
TOOLCHAINS = tests/toolchains
EELS = .venv-eels
RUN = sh .ci/stage.sh

# What these would change is chosen here, so that a shell with another project's settings gives the same result.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

DEVNET_DIR = devnet
DEVNET_FLAGS =
PYTEST_FLAGS =
# One pytest worker a core; at most four, since several tests start node processes of their own.
WORKERS = $$(cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ "$$cores" -gt 4 ] && cores=4; echo "$$cores")
UV_COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --prerelease=if-necessary-or-explicit --custom-compile-command "make lock"
PYTEST = $(BIN)/pytest -n $(WORKERS) $(PYTEST_FLAGS)

.PHONY: help install devnet devnet-network devnet-reset test lint fmt unit vectors clients-setup clients crash bench \
	bench-worst-case bench-consensus bench-txpool bench-network bench-explorer bench-tracing bench-subscribers bench-devnet \
	soak simulation rpc-rubbish rpc-differential mutants eels-traces traced-vectors contracts gas-table rpc-reference lock clean

help: ## list the targets
	@echo "AstraLink targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-18s %s\n' "$$name" "$$text"; done

install: $(VENV)/ready ## set up the Python environment in .venv (done once; redone when pins change)

devnet: $(VENV)/ready ## run a one-validator chain with ten funded accounts on 127.0.0.1:8545
	@exec $(BIN)/astralink-node devnet --dir $(DEVNET_DIR) $(DEVNET_FLAGS)

devnet-network: $(VENV)/ready ## run a network of four validators, each a process of its own (./devnet-network)
	@exec $(BIN)/astralink-node devnet --dir devnet-network --validators 4 $(DEVNET_FLAGS)

devnet-reset: $(VENV)/ready ## delete the devnet's chain and keys (./devnet)
	@$(BIN)/python .ci/reset_devnet.py $(DEVNET_DIR)

test: $(VENV)/ready clients-setup lint ## set up, static checks, the whole suite
	@$(RUN) --last "tests" $(PYTEST) --hypothesis-profile ci

lint: $(VENV)/ready ## ruff, mypy --strict, import-linter
	@$(RUN) "ruff check" $(BIN)/ruff check --quiet .
	@$(RUN) "ruff format" $(BIN)/ruff format --quiet --check .
	@$(RUN) "mypy" $(BIN)/mypy
	@$(RUN) "import-linter" $(BIN)/lint-imports --no-logo

fmt: $(VENV)/ready ## format and fix what ruff can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

unit: $(VENV)/ready ## unit, property and architecture tests only (about a minute)
	@$(PYTEST) tests/unit tests/properties tests/architecture

vectors: $(VENV)/ready ## published vectors and the execution-spec-tests
	@$(PYTEST) tests/vectors

clients-setup: $(VENV)/ready $(CLIENTS)/node_modules/.ready $(INTEROP)/node_modules/.ready $(TOOLCHAINS)/node_modules/.ready

clients: clients-setup ## web3.py, ethers, viem, hardhat, cast and forge against a devnet process; js-libp2p on the p2p network
	@$(PYTEST) tests/clients $(INTEROP)

crash: $(VENV)/ready ## 200 random SIGKILLs of a running node (about 20 minutes)
	@$(BIN)/python -m tests.crash.campaign --kills 200 --json benchmarks/results/crash.json

bench: $(VENV)/ready ## speed beside stock py-evm, then by state size; exits 1 below the agreed ratios
	@$(BIN)/python -m benchmarks.run
	@$(BIN)/python -m benchmarks.bench_blocks

bench-worst-case: $(VENV)/ready ## the slowest code that gas can buy, which bounds the gas limit (ADR 10)
	@$(BIN)/python -m benchmarks.bench_worst_case

bench-consensus: $(VENV)/ready ## what consensus costs, each figure beside its limit; exits 1 above one
	@$(BIN)/python -m benchmarks.bench_consensus

bench-txpool: $(VENV)/ready ## 100,000 transactions come in beside full blocks, in order and in none (about 8 minutes)
	@$(BIN)/python -m benchmarks.bench_txpool
	@$(BIN)/python -m benchmarks.bench_txpool --shuffled --output benchmarks/results/txpool-shuffled.json

bench-network: $(VENV)/ready ## arrival to final receipt in four processes (about 5 minutes), and how fast a cut network heals
	@$(BIN)/python -m tests.campaigns.partitions --json benchmarks/results/network.json
	@$(BIN)/python -m benchmarks.bench_network

bench-explorer: $(VENV)/ready ## eth_getLogs over 10,000 blocks, and what the explorer index costs (6 minutes)
	@$(BIN)/python -m benchmarks.bench_logs
	@$(BIN)/python -m benchmarks.bench_explorer_index

bench-tracing: $(VENV)/ready ## a heavy transaction's trace: steps a second, memory, cancelling, blocks beside it (3 minutes)
	@$(BIN)/python -m benchmarks.bench_tracing

bench-subscribers: $(VENV)/ready ## a thousand WebSocket subscribers of one gateway, ten of whom stall (about 4 minutes)
	@$(BIN)/python -m benchmarks.bench_subscribers

bench-devnet: $(VENV)/ready ## from a transfer to its receipt on a devnet that mines at once
	@$(BIN)/python -m benchmarks.bench_devnet

soak: $(VENV)/ready ## 30 minutes of load with random faults: memory, descriptors, tasks, one root at the end
	@$(BIN)/python -m tests.campaigns.soak --minutes 30 --json benchmarks/results/soak.json

simulation: $(VENV)/ready ## 20,000 heights of simulated networks, every promise checked (about 20 minutes)
	@$(BIN)/python -m tests.simulation.campaign --heights 20000 --json benchmarks/results/simulation.json

rpc-rubbish: $(VENV)/ready ## 100,000 messages of rubbish for a gateway process (about 3 minutes)
	@$(BIN)/python -m tests.campaigns.rpc_rubbish

rpc-differential: clients-setup ## the same blocks and questions for a devnet and for anvil (about 3 minutes)
	@$(BIN)/python -m tests.campaigns.rpc_differential --json benchmarks/results/rpc-differential.json

mutants: $(VENV)/ready ## break each consensus rule in turn: a test must notice (about 5 minutes)
	@$(BIN)/python -m tests.mutants.run --json benchmarks/results/mutants.json

eels-traces: $(VENV)/ready ## record 1,000 EIP-3155 traces of the execution specifications (about 10 minutes)
	@[ -x $(EELS)/bin/python ] || $(BIN)/python -m venv $(EELS)
	@$(EELS)/bin/python -m pip install -qq -r tests/campaigns/eels-requirements.txt
	@$(BIN)/python -m tests.campaigns.eels_traces $(EELS)/bin/python

traced-vectors: $(VENV)/ready ## every execution-spec-test with all tracers on: nothing may change (about 10 minutes)
	@$(BIN)/python -m tests.campaigns.traced_vectors --json benchmarks/results/traced-vectors.json

contracts: $(VENV)/ready ## compile the Vyper sources into contracts/staking/artifacts
	@$(BIN)/python -m contracts.build

gas-table: contracts ## measure contracts/staking/gas.json anew
	@$(BIN)/python -m tests.contracts.gas_scenarios

rpc-reference: $(VENV)/ready ## write the table of methods in docs/rpc.md anew
	@$(BIN)/python -m astralink_node.gateway.methods.reference

# fastecdsa is left out: it is C source that needs Python's and GMP's headers, and py-libp2p imports it for secio
# alone, which p2p/libp2p_patches.py takes out.
lock: $(VENV)/ready ## resolve pyproject.toml's ranges anew into requirements*.txt (needs the `uv` tool)
	@command -v uv >/dev/null 2>&1 || { echo "uv is missing: pipx install uv" >&2; exit 1; }
	$(UV_COMPILE) --all-extras --no-emit-package fastecdsa --no-emit-package python-baseconv \
		--no-emit-package varint -o requirements.txt pyproject.toml
	$(UV_COMPILE) --no-deps --group source -o requirements-source.txt

clean: ## delete everything that set-up and tests made (not a devnet's chain)
	rm -rf $(VENV) $(EELS) tests/fixtures/unpacked build dist *.egg-info
	rm -rf $(CLIENTS)/node_modules $(INTEROP)/node_modules $(TOOLCHAINS)/node_modules $(CLIENTS)/artifacts $(TOOLCHAINS)/artifacts
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/ready: requirements.txt requirements-source.txt pyproject.toml .ci/set_up.sh
	@PYTHON="$(PYTHON)" sh .ci/set_up.sh python $(VENV)

$(CLIENTS)/node_modules/.ready $(INTEROP)/node_modules/.ready: %/node_modules/.ready: %/package-lock.json %/package.json .ci/set_up.sh
	@sh .ci/set_up.sh clients $*

# Installed by the Node.js 22 of the client tests, which hardhat needs: npm leaves out optional packages, and hardhat's
# native half is one, that do not fit the Node.js it runs on.
$(TOOLCHAINS)/node_modules/.ready: $(CLIENTS)/node_modules/.ready $(TOOLCHAINS)/package-lock.json $(TOOLCHAINS)/package.json .ci/set_up.sh
	@PATH="$$(pwd)/$(CLIENTS)/node_modules/.bin:$$PATH" sh .ci/set_up.sh clients $(TOOLCHAINS)
