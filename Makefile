# make setup   install everything into .venv, from requirements.lock
# make run     the main job on the embedded default: simulate, train, gate, push, answer
# make check   lint, types and the fast tests
# make test    all tests
# make lock    resolve requirements.lock again from setup.py

PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
# A file's tests share what is costly to make and go in order; files go to as many processes as there are cores, in
# the order of tests/conftest.py.
PYTEST := .venv/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
ROOT ?= runs/marketplace

.PHONY: setup run check test lock
.DELETE_ON_ERROR:

setup: $(INSTALLED)

$(INSTALLED): requirements.lock setup.py .python-version bin/install
	@bin/install
	@touch $@

run: setup
	.venv/bin/winnow run --root $(ROOT)
	.venv/bin/winnow recommend --user u000003 --root $(ROOT)
	@echo
	@echo "Where to look next:"
	@echo "  .venv/bin/winnow recommend --user u000042 --exclude-seen"
	@echo "  .venv/bin/winnow similar --item i000001"
	@echo "  .venv/bin/tensorboard --logdir $(ROOT)/artifacts/RetrievalTrainer/model_run   training curves"
	@echo "  $(ROOT)/artifacts/RunReport/page/*/report.html   verdict, curves and metrics, for a browser"
	@echo "  $(ROOT)/serving    the pushed versions, as TensorFlow Serving loads them"
	@echo "  $(ROOT)/logs       what TFX, Beam and TensorFlow said"
	@echo "  README.md          your own events, features and gates"

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy pipelines components trainers schemas sources serving benchmarks
	$(PYTEST) -m "not slow"

test: setup
	$(PYTEST)

lock: setup
	bin/uv pip compile setup.py --extra dev --extra bench --python-version 3.10 --generate-hashes \
		--no-header --no-annotate --output-file requirements.lock
