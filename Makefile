# make demo      train, validate, detect and export once on a generated dataset (one or two minutes)
# make test      every test; pytest's summary is the last line
# make lint      ruff check, ruff format --check, mypy, known vulnerabilities where their data can be reached
# make format    fix and format the code
# make coverage  every test in one process, then the lines that none of them ran
# make chaos     end trainings by signals, full disks and more, compare the resumed runs bit by bit (minutes)
# make soak      long jobs whose memory, handles and threads must stay flat (more than an hour; SOAK="--fraction 0.1": shorter)
# make mutation  small changes of the code that no test notices (MUTATION="--sample 5 utils/boxes.py": fewer)
# make docs      documentation site in build/site
# make editor    bundle the page of `graftdet edit` from docs/editor (Node.js 20 and npm)
# make hashes    write requirements-hashes.txt again after constraints.txt or a requirement has changed (needs uv)
# make sbom      software bill of materials in build/sbom.json (CycloneDX)
# make wheel     source distribution and wheel in dist/
# make bench     speed on this machine: ratio, limit, verdict; also written to runs/benchmarks/all.json and all.md
# make pretrained  train the pretrained weights again, into runs/pretraining (hours)
# All create .venv first, with the exact versions of constraints.txt. Only Python 3.11 or newer is needed.
PYTHON ?= python3
VENV := .venv/bin/python

# Tests read photographs from $DATASETS_DIR, by default from the folder beside this checkout.
ifeq ($(origin DATASETS_DIR),undefined)
BESIDE := $(shell cd ../shared/data 2>/dev/null && pwd)
ifneq ($(BESIDE),)
export DATASETS_DIR := $(BESIDE)
endif
endif

.PHONY: demo test lint format bench coverage chaos soak mutation docs editor hashes sbom wheel pretrained clean

demo: .venv/ready
	$(VENV) -m tests.demo

# Several processes of one thread each: most tests are too small for two threads.
test: .venv/ready
	OMP_NUM_THREADS=1 $(VENV) -m pytest -n auto --maxprocesses 4

lint: .venv/ready
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m tests.check_types
	$(VENV) -m tests.dependencies.vulnerabilities

format: .venv/ready
	$(VENV) -m ruff check --fix
	$(VENV) -m ruff format

coverage: .venv/ready
	OMP_NUM_THREADS=1 $(VENV) -m coverage run -m pytest
	$(VENV) -m coverage combine --quiet
	$(VENV) -m coverage report

chaos: .venv/ready
	OMP_NUM_THREADS=1 $(VENV) -m tests.chaos.kill_harness

soak: .venv/ready
	$(VENV) -m tests.chaos.soak $(SOAK)

mutation: .venv/ready
	OMP_NUM_THREADS=1 $(VENV) -m tests.chaos.mutation $(MUTATION)

docs: .venv/ready
	$(VENV) -m docs.site

# The bundle is committed: only changes of docs/editor need this.
editor:
	cd docs/editor && npm ci --no-audit --no-fund && npm run build

hashes:
	uv pip compile pyproject.toml --extra all --extra dev --constraints constraints.txt --universal --python-version 3.11.5 \
		--generate-hashes --no-header --no-annotate --quiet --output-file build/hashes.txt
	{ sed -n '/^#/p' requirements-hashes.txt; cat build/hashes.txt; } > build/requirements-hashes.txt
	mv build/requirements-hashes.txt requirements-hashes.txt

sbom: .venv/ready
	$(VENV) -m tests.dependencies.sbom

wheel: .venv/ready
	$(VENV) -m build --outdir dist .

bench: .venv/ready
	$(VENV) -m benchmarks

# An interrupted run is resumed. One of them: .venv/bin/python -m benchmarks.pretraining graft-n
pretrained: .venv/ready
	$(VENV) -m benchmarks.pretraining

# Repeated when a requirement changes. Always `python -m TOOL`, never a script of .venv/bin: these start by an absolute
# path, which fails where the path of the checkout has spaces or has changed.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check hatchling editables -c constraints.txt
	$(VENV) -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[all,dev]' -c constraints.txt
	$(VENV) -c 'import cv2'  # on a slim image this names the system library that is missing (libgl1, libglib2.0-0)
	touch .venv/ready

clean:
	rm -rf .venv build demo dist
