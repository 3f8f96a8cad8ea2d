# The everyday commands; each is a script that works without make.

.PHONY: help run test check lock wheel up-vllm down-vllm logs-vllm clean

help:
	@echo "make run    set up and run the gateway     make test   set up and run all tests"
	@echo "make check  what needs no server           make lock   lock the newest versions that fit"
	@echo "make up-vllm, down-vllm, logs-vllm   vLLM on this machine, as the VLLM_* settings say"
	@echo "make wheel  build dist/*.whl               make clean  remove what was built and cached"

run:
	@scripts/start_vllm_ollama.sh

test:
	@scripts/test.sh

check:
	@scripts/check

lock:
	@scripts/lock --upgrade

wheel:
	@bash -euc '. scripts/environment.sh; install_from requirements.lock; find_uv; \
		"$$UV" build -q --no-config --wheel --no-build-isolation --offline --python .venv/bin/python -o dist'

up-vllm down-vllm logs-vllm:
	@scripts/vllm $(@:-vllm=)

clean:
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
