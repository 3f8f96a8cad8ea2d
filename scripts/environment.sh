# Sourced by the scripts: the virtual environment `.venv`, installed from a lock. Works with bash 3.2 (macOS).
# shellcheck shell=bash

MINIMUM=3.11

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

is_python() { # whether this command is a Python that is new enough
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$MINIMUM'.split('.'))))" >/dev/null 2>&1
}

# The first Python that is new enough; PYTHON names another one.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3.14 python3 python; do
        if is_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python $MINIMUM or later is needed and was not found (looked for python3.14 to python3.11, python3, python)." \
        "Install it: 'sudo apt install python3 python3-venv' (Debian 12, Ubuntu 24.04), 'brew install python@3.13' (macOS)," \
        "or set PYTHON to the path of one."
}

make_venv() {
    local python
    is_python .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1 && return
    python=$(find_python) || exit 1
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || die "$python cannot make a virtual environment: on Debian and Ubuntu," \
        "'sudo apt install python3-venv' brings what is missing; then run this again."
}

hash_of() { # of these files' content
    cat "$@" | .venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# Bring .venv to what LOCK says, and Penstock into it; at once when that was done before and nothing has changed.
install_from() {
    local lock=$1 stamp wanted
    make_venv
    stamp=".venv/installed-$lock"
    wanted="$(pwd) $(hash_of "$lock" pyproject.toml scripts/environment.sh)"
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ] || return 0
    say "Installing what $lock names into .venv"
    quiet_pip install --require-hashes -r "$lock"
    quiet_pip install --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$stamp"
}

quiet_pip() {
    .venv/bin/python -m pip -q --disable-pip-version-check --no-input "$@" ||
        die "pip could not install (see above): is there a network, and room on the disk? Then run this again."
}
