#!/usr/bin/env bash
# ./run.sh            set up, then run the gateway with its embedded defaults until Ctrl-C
# ./run.sh demo       set up, start everything, send the demo's payments, print the table, stop
# ./run.sh VERB ...   any other verb of the `paymesh` command, such as: ./run.sh validate examples/demo
set -eu
cd "$(dirname "$0")"
source ./setup.sh
paymesh_setup
case "${1:-}" in
    "" | -*) exec .venv/bin/paymesh up "$@" ;;
    *) exec .venv/bin/paymesh "$@" ;;
esac
