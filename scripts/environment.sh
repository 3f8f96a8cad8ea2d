# Sourced by the scripts: the virtual environment `.venv`, installed from a lock by uv. Works with bash 3.2 (macOS).
# shellcheck shell=bash
# shellcheck source=scripts/progress.sh
. scripts/progress.sh

MINIMUM=3.11
CACHE=~/.cache
CACHE="${PENSTOCK_CACHE_DIR:-${XDG_CACHE_HOME:-$CACHE}/penstock}"
export UV_NO_PROGRESS=1
unset VIRTUAL_ENV CONDA_PREFIX # uv would prefer the active environment

is_python() { # COMMAND: whether it is a Python that is new enough
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$MINIMUM'.split('.'))))" >/dev/null 2>&1
}

# Print the path of the Python that PYTHON names, else of the first one that is new enough.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" || die "PYTHON=$PYTHON is not a Python $MINIMUM or later. Set it to another one, or unset it."
        command -v "$PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if is_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python $MINIMUM or later is needed and was not found (looked for python3.14 to python3.11, python3, python)." \
        "Install it: 'sudo apt install python3 python3-venv' (Debian 12, Ubuntu 24.04), 'brew install python@3.13' (macOS)," \
        "or set PYTHON to the path of one."
}

# Set UV to the uv of the locked version: the one on PATH, or one in the cache folder, installed there once by pip.
find_uv() {
    local python version folder
    version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements-uv.lock)
    folder="$CACHE/uv-$version"
    for UV in uv "$folder/bin/uv"; do
        case $("$UV" --version 2>/dev/null || true) in "uv $version" | "uv $version "*)
            export UV
            return
            ;;
        esac
    done
    python=$(find_python) || exit 1
    run_step "Installing uv $version into $folder" install_uv "$python" "$folder" ||
        die "uv could not be installed. Check the network (pip's own settings and proxies apply) and the room on the disk." \
            "On Debian and Ubuntu, 'sudo apt install python3-venv' brings the pip that this step needs. Then run this again."
    export UV
}

install_uv() { # PYTHON FOLDER
    local unfinished="$2.$$"
    rm -rf "$unfinished"
    "$1" -m venv "$unfinished" && "$unfinished/bin/python" -m pip install --disable-pip-version-check --no-input \
        --no-deps --only-binary :all: --require-hashes -r requirements-uv.lock || return
    mkdir -p "$2/bin" && mv -f "$unfinished/bin/uv" "$2/bin/uv" &&
        rm -rf "$unfinished"
}

has_venv() { # whether .venv works, and is of PYTHON where that is set
    local python
    is_python .venv/bin/python || return
    [ -n "${PYTHON:-}" ] || return 0
    python=$(find_python) || exit 1
    [ "$(interpreter_of "$python")" = "$(interpreter_of .venv/bin/python)" ]
}

make_venv() {
    local python
    python=$(find_python) || exit 1
    run_step "Making .venv with $("$python" --version)" "$UV" venv --no-config --clear --python "$python" .venv ||
        die "uv could not make .venv with $python (see above). Set PYTHON to another one, then run this again."
}

interpreter_of() { # PYTHON: the version and the installation that it belongs to
    "$1" -c 'import sys; print(sys.version, sys.base_prefix)'
}

state_of() { # LOCK: what .venv depends on, in one line
    cat "$1" pyproject.toml scripts/environment.sh | .venv/bin/python -c \
        'import hashlib, os, sys; print(os.getcwd(), hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# Bring .venv to what LOCK says, and Penstock into it; at once when that was done before and nothing has changed.
install_from() {
    local lock=$1 stamp=".venv/installed-$1"
    if has_venv; then
        [ "$(cat "$stamp" 2>/dev/null || true)" != "$(state_of "$lock")" ] || return 0
        find_uv
    else
        find_python >/dev/null || exit 1
        find_uv
        make_venv
    fi
    run_step "Installing the $(grep -c '^[a-zA-Z0-9]' "$lock") packages of $lock into .venv" install_locked "$lock" ||
        die "The packages could not be installed. Check the network (UV_DEFAULT_INDEX and HTTPS_PROXY apply; pip's index-url" \
            "is used too) and the room on the disk. What is in uv's cache already needs no network. Then run this again."
    run_step "Installing Penstock into .venv" "$UV" pip install --no-config --offline --python .venv/bin/python \
        --no-deps --no-build-isolation --editable . ||
        die "Penstock itself could not be installed (see above)."
    state_of "$lock" >"$stamp"
}

# The lock is complete, so nothing is resolved: a later release of any package cannot change what is installed.
install_locked() { # LOCK
    local wanted=(pip install --python .venv/bin/python --no-deps --require-hashes --requirement "$1")
    "$UV" "${wanted[@]}" --no-config --offline 2>/dev/null && return
    use_index_settings
    "$UV" "${wanted[@]}"
}

# Read the user's own uv.toml and pip settings, where a company's mirror and certificates are named; a uv.toml in a folder
# above this one is not read. UV_DEFAULT_INDEX and SSL_CERT_FILE come first.
use_index_settings() {
    local python index certificates own="${XDG_CONFIG_HOME:-${HOME:-}/.config}/uv/uv.toml"
    if has_system_certificates; then
        export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
    fi
    if [ -n "${UV_CONFIG_FILE:-}" ] || [ -f "$own" ]; then
        export UV_CONFIG_FILE="${UV_CONFIG_FILE:-$own}"
        return
    fi
    export UV_NO_CONFIG=1
    python=$(find_python) || return
    index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
    certificates=${PIP_CERT:-$("$python" -m pip config get global.cert 2>/dev/null || true)}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
    [ -z "$certificates" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"
}

has_system_certificates() { # a company's own authority is in the system's store; a slim container has none, uv has its own
    local file
    [ "$(uname)" != Darwin ] || return 0
    for file in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}
