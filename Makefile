PYTHON ?= python3
BIN = .venv/bin
# CPU threads that wait in a loop starve those of a run beside this one
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install demo demo-report demo-ablations demo-curve demo-student \
	demo-teacher demo-transfer small test test-full test-openmmlab docs lint

install: .venv/installed

# Asked for before anything is made: what pip cannot bring.
needs = || { echo "mmfd needs $(1)" >&2; exit 1; }

# What goes into which environment: the maintained line, and the older one.
.venv/installed: packages = -e '.[test,docs]'
.venv-openmmlab/installed: packages = -r requirements-openmmlab.txt
.venv-openmmlab/installed: requirements-openmmlab.txt

# mmcv asks for opencv-python, which needs libGL; the headless build is the
# same library without windows, and runs on slim images too. 4.13 is too
# new for imaug, which onedl-mmdetection brings.
.venv/installed .venv-openmmlab/installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null \
	  $(call needs,$(PYTHON) with venv: apt install $(notdir $(PYTHON))-venv)
	@$(PYTHON) -c 'import sys; exit(not (3, 10) <= sys.version_info < (3, 14))' \
	  $(call needs,Python 3.10 to 3.13 and not $$($(PYTHON) -V): make PYTHON=python3.12)
	$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -q --upgrade pip \
	  $(call needs,PyPI and certificates: apt install ca-certificates)
	$(@D)/bin/pip install -q $(packages)
	$(@D)/bin/pip uninstall -q -y opencv-python opencv-python-headless
	$(@D)/bin/pip install -q --no-deps 'opencv-python-headless<4.13' -e .
	touch $@

demo: install
	$(BIN)/python demo/distil_and_compare.py

ANALYZE = $(BIN)/python tools/analyze.py --images data/shapes/imagenet \
  --batch-size 50

demo-report: install
	$(ANALYZE) --out work_dirs/report/distilled \
	  configs/demo/simclr_fd.py work_dirs/simclr_fd/epoch_4.pth
	$(ANALYZE) --out work_dirs/report/fine_tuned \
	  configs/demo/simclr_shapes.py work_dirs/simclr_shapes/epoch_3.pth \
	  configs/demo/simclr_fd_shapes.py work_dirs/simclr_fd_shapes/epoch_3.pth \
	  --measures landscape

demo-ablations: install
	$(BIN)/python demo/compare_ablations.py

demo-teacher: install
	$(BIN)/python demo/train_teacher.py

demo-student: install
	$(BIN)/python demo/train_student.py

demo-curve: install
	$(BIN)/python demo/measure_curve.py

demo-transfer: install
	$(BIN)/python demo/segment_and_detect.py

# docs/evidence.md: FD at a scale that two cores can afford, DATA is CIFAR-10,
# CAMVID street scenes for segmentation
small: install
	$(BIN)/python evidence/run.py '$(DATA)' $(if $(CAMVID),'$(CAMVID)')

# two at a time, a file of tests always in one process
PYTEST = python -m pytest -n 2 --dist loadfile

test: install
	$(BIN)/$(PYTEST)

# What `make test` leaves out, a file at a time. What has passed on this state
# of the files is not run again, so an interrupted run goes on:
# make -k -j 2 test-full
STATE := $(shell { git rev-parse HEAD; git diff HEAD; } | sha256sum | cut -c1-12)
LONG := $(shell grep -rl --include='test_*.py' 'mark.full' tests)

test-full: $(LONG:tests/%.py=.full/$(STATE)/%)

.full/$(STATE)/%: tests/%.py .venv/installed
	$(BIN)/python -m pytest --full -m full $<
	@mkdir -p $(@D) && touch $@

# the suite against the last releases of the line that stands still
test-openmmlab: .venv-openmmlab/installed
	.venv-openmmlab/bin/$(PYTEST)

# The site, in build/docs; a warning is an error
docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs

lint:
	pre-commit run --all-files
