# One word per habit; `python3 dev.py WORD` is the same without make. ARGS="-k box" is passed on.
PYTHON ?= python3

setup lock test lint types check browser stress samples neighbours bench docs demo extras release:
	@$(PYTHON) dev.py $@ $(ARGS)

.PHONY: setup lock test lint types check browser stress samples neighbours bench docs demo extras release
