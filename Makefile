PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo test lint bench demo-weights clean
help: ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(INSTALLED) ## Decode the built-in cohort with argmax and RMA; ends with the path of a page
	$(BIN)/rankseg-rma demo --out demo-out

test: $(INSTALLED) lint ## Lint, type-check, and run all tests and doctests
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED) ## Lint, check the format, and type-check the decoder and evaluation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED) ## Time the decoder against argmax and rankseg; print the table and draw it
	$(BIN)/python benchmarks/decode.py

demo-weights: $(INSTALLED) ## Train the demonstration's weights again, with a fixed seed
	rm -rf runs/phantom runs/demo
	$(BIN)/rankseg-rma data make phantom --out runs/phantom --cases 80 --seed 1
	$(BIN)/rankseg-rma train --dataset phantom --root runs/phantom --network segresnet3d_small --epochs 100 \
		--batch-size 2 --learning-rate 0.002 --out runs/demo
	$(BIN)/python -c "from pathlib import Path; from rankseg_rma.workflows.demo import ship_weights; \
		ship_weights(Path('runs/demo'))"

clean: ## Remove the environment and everything that was made
	rm -rf .venv demo-out runs build dist
