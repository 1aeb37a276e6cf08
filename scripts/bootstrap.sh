#!/usr/bin/env bash
# Make build/venv with oxgen installed in place, and whatever that needs.
#
#   scripts/bootstrap.sh run|test|dev       the extras to install: none, test, dev
#
# As root on Debian it installs missing packages and says so; otherwise it prints the one line to
# run. A second run does nothing unless sources changed. PYTHON=... chooses the interpreter.
set -euo pipefail
umask 022 # the ordinary user that the tests run as reads what root makes here

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

group=${1:-run}
case $group in
    run) extras="" covering="run test dev" ;;
    test) extras="[test]" covering="test dev" ;;
    dev) extras="[dev]" covering="dev" ;;
    *) die "usage: scripts/bootstrap.sh run|test|dev" ;;
esac

# Variables of an active environment, or of the caller's, would change which Python this is.
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV __PYVENV_LAUNCHER__
# Package indexes stay as configured; where pip installs to must be this environment.
export PIP_USER=0 PIP_TARGET="" PIP_PREFIX="" PIP_ROOT="" PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_REQUIRE_VIRTUALENV=0

usable_python() {
    "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# Debian's own comes first: its headers and its venv module can be installed, and an ordinary user
# may run it, while one below /root (pyenv's shims) serves root alone.
choose_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        usable_python "$PYTHON" || die "PYTHON=$PYTHON is not a Python of version 3.10 or later"
        python=$PYTHON
        return
    fi
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if usable_python "$candidate"; then
            python=$candidate
            return
        fi
    done
    python=""
}

mkdir -p build 2>/dev/null || true
[ -w build ] || die "build/ cannot be written by $(id -un 2>/dev/null || id -u): remove it (make clean) as its owner"
if command -v flock >/dev/null 2>&1; then
    exec 9>build/.lock
    flock -w 900 9 || die "another build has held build/.lock for 15 minutes"
fi

choose_python
if [ -z "$python" ]; then
    need_packages "no Python 3.10 or later" python3 python3-venv python3-dev
    choose_python
    [ -n "$python" ] || die "no Python 3.10 or later; name one with PYTHON=..."
fi

wanted=()
reasons=()
lack() {
    reasons+=("$1")
    wanted+=("${@:2}")
}
echo 'int main(void) { return 0; }' | compiles -static || lack "no C compiler" gcc libc6-dev
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || lack "no venv module" python3-venv
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -f "$include/Python.h" ] || lack "no Python.h in $include" python3-dev
if [ ${#wanted[@]} -gt 0 ]; then
    reason=$(printf '%s, ' "${reasons[@]}")
    need_packages "${reason%, }" "${wanted[@]}"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$python has no venv module even now: it is not Debian's; try PYTHON=/usr/bin/python3"
    [ -f "$include/Python.h" ] ||
        die "$include has no Python.h even now: $python is not Debian's; try PYTHON=/usr/bin/python3"
fi

venv=build/venv

# pip_install ARGS...: what pip says is of interest only if it fails.
pip_install() {
    if ! "$venv/bin/python" -m pip install -q "$@" >build/install.log 2>&1; then
        cat build/install.log >&2
        die "installing failed; the lines above are in build/install.log"
    fi
}

# The scripts in it name its place, so a tree that was moved needs a new one.
identity=$("$python" -c 'import os, sys; print(sys.version, os.path.realpath(sys.executable))')
identity="$identity $root"
if [ "$(cat "$venv/.identity" 2>/dev/null)" != "$identity" ] ||
    ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    say "making build/venv"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    pip_install --upgrade "setuptools>=77" "cffi>=1.16" wheel
    printf '%s\n' "$identity" >"$venv/.identity"
fi

digest() {
    find "$@" -type f -exec sha256sum {} + | LC_ALL=C sort -k2 | sha256sum | cut -d' ' -f1
}
dependencies=$(digest pyproject.toml)
# setup.py runs build_native.py from csrc/; the names of the files count as well as their bytes.
sources=$(find csrc -name '*.c' -o -name '*.h' -o -name '*.py' | LC_ALL=C sort)
# shellcheck disable=SC2086
native=$(digest setup.py $sources)

installed() {
    local larger
    for larger in $covering; do
        [ "$(cat "$venv/.dependencies-$larger" 2>/dev/null)" != "$dependencies" ] || return 0
    done
    return 1
}
built() {
    [ "$(cat "$venv/.native" 2>/dev/null)" = "$native" ] && [ -x oxgen/_launcher ] &&
        compgen -G 'oxgen/_native*.so' >/dev/null
}

if ! installed || ! built; then
    options=(--no-build-isolation)
    if installed; then
        say "compiling oxgen"
        options+=(--no-deps)
    else
        say "installing oxgen$extras and compiling it"
    fi
    # Nothing of an older build may be taken for the new one.
    rm -f "$venv/.native" oxgen/_launcher oxgen/_native*.so
    pip_install "${options[@]}" -e ".$extras"
    printf '%s\n' "$native" >"$venv/.native"
    installed || printf '%s\n' "$dependencies" >"$venv/.dependencies-$group"
fi
