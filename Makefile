PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
TOOLS := .venv/.tools
PIP := PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python -m pip install --quiet --disable-pip-version-check
VIEWER := pipeline/rankseg_rma/report/viewer

.PHONY: help demo test test-long durations lint bench viewer demo-weights clean
help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

$(TOOLS): $(INSTALLED)
	$(PIP) -e '.[dev]'
	touch $@

demo: $(INSTALLED) viewer ## Decode the built-in cohort with argmax and RMA; ends with the path of a page
	$(BIN)/rankseg-rma demo --out demo-out

test: $(TOOLS) viewer lint ## Lint, type-check, and run the tests and doctests but the long ones
	$(BIN)/python -m pytest -n 2 --dist loadgroup

test-long: $(TOOLS) viewer ## Run the tests that are long by nature
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m long

durations: $(TOOLS) viewer ## Say which tests take the time
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=20

lint: $(TOOLS) ## Lint, check the format, and type-check the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(TOOLS) ## Time the decoder against argmax and rankseg, and the scores against MONAI; print the tables
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/evaluate.py

# The script comes from the pinned lock file; without npm or network the page does without its viewer.
viewer: ## Put the pinned interactive viewer (NiiVue, from npm) into the package, for the report page
	@cd $(VIEWER) && if cmp -s package-lock.json .built; then exit 0; \
	elif ! command -v npm >/dev/null; then echo "npm was not found: the page will lack its interactive viewer"; \
	elif npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
		&& cp node_modules/@niivue/niivue/dist/niivue.umd.js . \
		&& for file in NIIVUE_LICENSE.txt $$(find node_modules -maxdepth 3 -iname "license*" | sort); do \
			echo "==== $${file#node_modules/}"; cat "$$file"; echo; done > niivue.LICENSES.txt \
		&& cp package-lock.json .built; then rm -rf node_modules; \
	else rm -rf node_modules; echo "npm could not fetch the viewer: the page will lack it"; fi

demo-weights: $(TOOLS) ## Train the demonstration's weights again, with a fixed seed
	rm -rf runs/phantom runs/demo
	$(BIN)/rankseg-rma data make phantom --out runs/phantom --cases 80 --seed 1
	$(BIN)/rankseg-rma train --dataset phantom --root runs/phantom --network segresnet3d_small --epochs 100 \
		--batch-size 2 --learning-rate 0.002 --out runs/demo
	$(BIN)/python -c "from pathlib import Path; from rankseg_rma.demo import ship_weights; \
		ship_weights(Path('runs/demo'))"

clean: ## Remove the environment and everything that was made
	rm -rf .venv demo-out runs build dist $(VIEWER)/niivue.* $(VIEWER)/.built
