#!/usr/bin/env bash
# Set up, then run the tests in parallel; arguments go to pytest: ./test.sh tests/unit -k policy
set -eu
cd "$(dirname "$0")"
source ./setup.sh
paymesh_setup test
exec .venv/bin/python -m pytest -n "${PAYMESH_TEST_WORKERS:-auto}" --dist loadscope -m "not soak" "$@"
