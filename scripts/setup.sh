#!/usr/bin/env bash
# Makes the environment .venv: Posterion from this folder, everything else in the exact versions of constraints.txt.
#
# The last thing written is a stamp that tells what the environment was made from. While it still tells the truth, this
# script does nothing; an environment without a true stamp is completed if its Python works, and made anew otherwise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
python=$venv/bin/python
stamp=$venv/.setup-done

# Python of a version we support, with what a virtual environment needs. Candidates are run, not only looked up: a
# launcher of pyenv exists for every version that is installed, and fails for those that are not selected.
check='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))'

installed='import sys; from importlib.util import find_spec; sys.exit(find_spec("posterion") is None)'

made_from() {
    pwd -P # a moved environment has wrong paths inside
    cksum pyproject.toml constraints.txt
}

works() { "$1" -c "$check" </dev/null >/dev/null 2>&1; }

candidates() {
    printf '%s\n' python3.13 python3.12 python3
    if command -v pyenv >/dev/null 2>&1; then
        local root
        root=$(pyenv root 2>/dev/null) || return 0
        ls -1d "$root"/versions/3.1[2-9]*/bin/python 2>/dev/null || true
    fi
}

find_python() {
    local candidate
    while read -r candidate; do
        if works "$candidate"; then
            echo "$candidate"
            return
        fi
    done < <(candidates)
    while read -r candidate; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' </dev/null >/dev/null 2>&1; then
            echo "Posterion found Python 3.12 or newer without its venv module: install it" \
                "(on Debian and Ubuntu: apt install $(basename "$candidate")-venv), then run this again." >&2
            return 1
        fi
    done < <(candidates)
    local found
    found=$(python3 -c 'import platform; print("only Python", platform.python_version())' 2>/dev/null) || found="no Python"
    echo "Posterion needs Python 3.12 or newer and found $found: install Python 3.13" \
        "(from python.org, your system's packages, or with 'pyenv install 3.13'), then run this again." >&2
    return 1
}

# Says the last words of pip only when it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        echo "Setting up failed at: $*" >&2
        return 1
    fi
    rm -f "$log"
}

if [[ -f $stamp && "$(made_from)" == "$(cat "$stamp")" ]] && "$python" -c "$installed" 2>/dev/null; then
    exit 0
fi

rm -f "$stamp"
if ! { works "$python" && "$python" -m pip --version; } >/dev/null 2>&1; then
    base=$(find_python)
    echo "Making $venv with $("$base" --version) ..."
    rm -rf "$venv"
    quietly "$base" -m venv "$venv"
fi
echo "Installing Posterion and the pinned versions of what it needs (some minutes the first time) ..."
install=("$python" -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt)
quietly "${install[@]}" hatchling editables
quietly "${install[@]}" --no-build-isolation --editable ".[all,dev]"
made_from >"$stamp"
echo "The environment is ready."
