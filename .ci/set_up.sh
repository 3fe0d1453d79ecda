#!/bin/sh
# set_up.sh python VENV | clients FOLDER: make what the targets need, from locked and hashed packages only.
# Each half leaves a stamp as its very last act. A set-up that was interrupted has no stamp but a marker, and
# starts again from nothing: pip cannot tell a half-copied package from a whole one.
set -eu

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Prints the first interpreter that runs, is 3.11 or 3.12 and can make environments. A name on PATH may be a shim
# with nothing behind it, and Debian ships Python without ensurepip, so each is tried and not merely looked up.
find_python() {
    without_venv=
    for candidate in ${PYTHON:-python3.12 python3.11 python3 python}; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case "$version" in 3.11 | 3.12) ;; *) continue ;; esac
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
        without_venv=${without_venv:-$version}
    done
    [ -z "$without_venv" ] ||
        fail "Python $without_venv cannot make environments: install the Debian package python$without_venv-venv"
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON does not run, or is not Python 3.11 or 3.12"
    fail "Python 3.11 or 3.12 is missing: install the Debian packages python3.11 and python3.11-venv"
}

set_up_python() {
    venv=$1
    [ ! -e "$venv/incomplete" ] || rm -rf "$venv"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        rm -rf "$venv"
        python=$(find_python) || exit 1
        printf '== set-up: %s into %s\n' "$("$python" --version)" "$venv"
        mkdir -p "$venv"
        : >"$venv/incomplete"
        "$python" -m venv "$venv"
    fi
    rm -f "$venv/ready"
    : >"$venv/incomplete"
    started=$(date +%s)
    # Flags of the user's own pip configuration that would send packages elsewhere are overruled here.
    unset PIP_TARGET PIP_PREFIX PIP_ROOT
    export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_REQUIRE_VIRTUALENV=0
    command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 ||
        printf 'no C compiler: if a package has no ready-made wheel for this machine, install the Debian package gcc\n'
    "$venv/bin/python" -m pip install -qq --no-deps --require-hashes -r requirements.txt ||
        fail "set-up failed: pip could not install the locked packages (see above; run the same target again)"
    # Pure Python, but without wheels: built by the setuptools that was locked and is installed by now.
    "$venv/bin/python" -m pip install -qq --no-deps --require-hashes --no-build-isolation -r requirements-source.txt ||
        fail "set-up failed: pip could not build the locked packages (see above; run the same target again)"
    # trio-typing, which py-libp2p imports, brings stubs of an old trio that would hide trio's own types from mypy.
    rm -rf "$venv"/lib/python3.1?/site-packages/trio-stubs
    "$venv/bin/python" -m pip install -qq --no-deps --no-build-isolation --no-index -e . ||
        fail "set-up failed: pip could not install this project (see above)"
    # One package is left out on purpose (see `lock` in the Makefile), and pip may name no other.
    left_out='libp2p 0.8.1 requires fastecdsa, which is not installed.'
    [ "$("$venv/bin/python" -m pip check)" = "$left_out" ] || {
        "$venv/bin/python" -m pip check
        fail "set-up failed: the installed packages do not fit together (one line about fastecdsa is expected)"
    }
    rm -f "$venv/incomplete"
    : >"$venv/ready"
    printf '== set-up: Python environment ready in %s s\n' "$(($(date +%s) - started))"
}

set_up_clients() {
    folder=$1
    command -v node >/dev/null 2>&1 || fail "node is missing: install the Debian package nodejs (version 20 or newer)"
    command -v npm >/dev/null 2>&1 || fail "npm is missing: install the Debian package npm"
    major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || fail "node does not run: reinstall the Debian package nodejs"
    [ "$major" -ge 20 ] || fail "node $major is too old: version 20 or newer of the Debian package nodejs is needed"
    started=$(date +%s)
    # npm ci deletes node_modules first, so an interrupted set-up starts again from nothing.
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) ||
        fail "set-up failed: npm could not install the locked packages (see above; run the same target again)"
    : >"$folder/node_modules/.ready"
    printf '== set-up: client packages ready in %s s\n' "$(($(date +%s) - started))"
}

# Two at once in one folder would delete each other's half. The lock is on this script, so nothing is left behind, and
# ends with the process, however that ends.
take_turn() {
    command -v flock >/dev/null 2>&1 || return 0
    exec 9<"$0"
    flock -n 9 && return 0
    printf '== set-up: waiting for another set-up of this folder to end\n'
    flock 9
}

case "${1:-}" in python | clients) take_turn ;; esac
case "${1:-}" in
python) set_up_python "$2" ;;
clients) set_up_clients "$2" ;;
*) fail "usage: set_up.sh python VENV | clients FOLDER" ;;
esac
