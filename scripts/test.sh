#!/usr/bin/env bash
# Set up what the tests need and run them all, real model servers included. Arguments are passed to pytest:
#
#     scripts/test.sh
#     scripts/test.sh tests/unit -k victoria
#     scripts/test.sh --set-up                  only install what the tests need; they need no network afterwards
#
# Two files run at a time; with PENSTOCK_TEST_WORKERS=0 all run one after the other, in one process.
# PENSTOCK_TEST_SKIP_VLLM=1 leaves vLLM out (2.5 GB); PENSTOCK_TEST_REQUIRE="llamacpp mlx" fails where one is missing.
# Model servers and uv are kept in ~/.cache/penstock (PENSTOCK_CACHE_DIR names another folder).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh

install_from requirements-test.lock
find_uv
use_index_settings
.venv/bin/python scripts/model_servers/install.py --cache "$CACHE" all </dev/null
[ "${1:-}" != --set-up ] || exit 0
exec .venv/bin/python -m pytest -n "${PENSTOCK_TEST_WORKERS:-2}" --dist loadfile "$@" </dev/null
