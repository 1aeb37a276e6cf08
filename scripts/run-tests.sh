#!/usr/bin/env bash
# Run the tests: as root also those that need it, and then once more as an ordinary user.
#
#   scripts/run-tests.sh [--budget] [PYTEST ARGUMENTS...]
#
# --budget compares the skipped tests with tests/skip_budget.txt, as CI does.
set -euo pipefail
umask 022
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

budget=0
if [ "${1:-}" = --budget ]; then
    budget=1
    shift
fi
export PYTHONDONTWRITEBYTECODE=1

# pytest_as NAME ARGS...: options that both runs share.
options() {
    printf '%s\n' -p no:cacheprovider -p _budget
    if [ "$budget" = 1 ]; then
        printf '%s\n' --skip-budget "$1"
    fi
}

mapfile -t common < <(options "$([ "$(id -u)" = 0 ] && echo root || echo user)")
if [ "$(id -u)" != 0 ]; then
    PYTHONPATH="$root/tests" HYPOTHESIS_STORAGE_DIRECTORY=build/hypothesis \
        exec build/venv/bin/python -m pytest "${common[@]}" -m "not root" "$@" </dev/null
fi

missing=()
command -v mount >/dev/null 2>&1 || missing+=(mount)
command -v setpriv >/dev/null 2>&1 || missing+=(util-linux)
[ ${#missing[@]} = 0 ] || need_packages "the tests as root need ${missing[*]}" "${missing[@]}"

status=0
say "tests as root"
PYTHONPATH="$root/tests" HYPOTHESIS_STORAGE_DIRECTORY=build/hypothesis \
    build/venv/bin/python -m pytest "${common[@]}" -m "not user" "$@" </dev/null || status=$?

# The ordinary user gets a copy: the tree may lie below a directory that only root enters, and
# nothing that this run leaves may lie in it.
uid=47001
while getent passwd "$uid" >/dev/null || [ -n "$(find /proc -maxdepth 1 -uid "$uid" 2>/dev/null)" ]; do
    uid=$((uid + 1))
done
copy=""
cleanup() {
    [ -z "$copy" ] || rm -rf "$copy"
}
trap cleanup EXIT
for base in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    copy=$(mktemp -d "$base/oxgen-user.XXXXXX") || continue
    chmod 755 "$copy"
    # A place that is mounted noexec, or that the user cannot enter, does not serve.
    cp "$(type -P true)" "$copy/true"
    if setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$copy/true" 2>/dev/null; then
        break
    fi
    rm -rf "$copy"
    copy=""
done
[ -n "$copy" ] || die "no directory for temporary files in which an ordinary user may run programs"
mkdir "$copy/tree" "$copy/home" "$copy/tmp"
tar -cf - --exclude=./.git --exclude=./build --exclude=__pycache__ --exclude=./dist . |
    tar -xf - -C "$copy/tree" --no-same-owner
mkdir "$copy/tree/build"
cp -a build/venv "$copy/tree/build/venv"
# Scripts and the editable install name the tree they were made in.
grep -rlIF -- "$root" "$copy/tree/build/venv/bin" "$copy/tree/build/venv"/lib/python3*/site-packages/__editable__* |
    xargs -r sed -i "s|$root|$copy/tree|g"
chown -R "$uid:$uid" "$copy"

say "tests as an ordinary user (uid $uid, in a copy)"
mapfile -t common < <(options user)
(
    cd "$copy/tree"
    exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all -- \
        env -i PATH="/usr/local/bin:/usr/bin:/bin" HOME="$copy/home" TMPDIR="$copy/tmp" \
        USER="user$uid" LOGNAME="user$uid" LANG=C.UTF-8 CI="${CI:-}" \
        PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$copy/tree/tests" \
        build/venv/bin/python -m pytest "${common[@]}" -m "not root" "$@" </dev/null
) || status=$?

left=$(find /proc -maxdepth 1 -uid "$uid" 2>/dev/null || true)
if [ -n "$left" ]; then
    sleep 2
    left=$(find /proc -maxdepth 1 -uid "$uid" 2>/dev/null || true)
fi
if [ -n "$left" ]; then
    say "processes of the ordinary user's run are still there:"
    for process in $left; do
        printf '    %s %s\n' "$process" "$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)" >&2
    done
    status=1
fi
exit "$status"
