# Two commands do everything on a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo train-sample test test-slow test-oldest check docs pictures clean
.DEFAULT_GOAL := demo

# uv where it is there, pip otherwise; both end in the same virtual environment.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --allow-existing --python $(PYTHON) .venv && uv pip install --python $(BIN)/python -e '.[dev]'; \
	else \
		$(PYTHON) -m venv .venv && $(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@

demo: .venv/installed  ## install, then the main job on the embedded sample
	@if [ -f reports/sample-test/summary.txt ]; then \
		cat reports/sample-test/summary.txt; echo; echo "(made before; in reports/sample-test)"; \
	else \
		$(BIN)/python -m analysis.rationale_eval --data data/eraser/sample --output reports/sample-test; \
	fi
	@echo
	@echo "figure: reports/sample-test/figures/agreement.pdf (and .png, .svg); everything on one page: reports/sample-test/report.html"
	@echo "what next:"
	@echo "  $(BIN)/streamlit run app/main.py     watch tokens drop, layer by layer"
	@echo "  make train-sample                    all steps of a training on the sample, about four minutes on 2 cores"
	@echo "  $(BIN)/python -m analysis.rationale_eval --help     your own model, your own documents"

train-sample: .venv/installed  ## every step of a training on the sample, about four minutes; too little data to be accurate
	@$(BIN)/adapler run --config configs/sample/minilm-post-hoc.yaml --model "$$($(BIN)/python -m adapler.minilm)"

test: .venv/installed  ## the tests that need nothing but this folder, in under four minutes on two cores
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser"

test-slow: .venv/installed  ## a browser (where chromium is), the real data (where it is), whole pipelines and several processes
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow or browser"

# With Python 3.11, for which all of them have wheels. A newer pyparsing warns of an older matplotlib.
test-oldest:  ## the same with the oldest versions that pyproject.toml allows; needs uv
	@uv venv -q --allow-existing --python $(PYTHON) .venv-oldest
	@uv pip install -q --python .venv-oldest/bin/python --resolution lowest-direct -e '.[dev]'
	@OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n 2 --dist loadfile -W default -m "not slow and not browser"

check: .venv/installed
	@$(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered

docs: .venv/installed  ## the documentation as a site, in site/; a dead link or a page outside the navigation is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: .venv/installed  ## docs/ again: the app's views and the animation, from the embedded sample; needs chromium
	@$(BIN)/python docs/screenshots.py

clean:
	rm -rf .venv .venv-oldest reports runs site
