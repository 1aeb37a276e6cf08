#!/usr/bin/env bash
# Build launcher and extension with AddressSanitizer and UndefinedBehaviorSanitizer into
# build/asan, and run the tests that launch programs against that build.
#
#   scripts/sanitize.sh [PYTEST ARGUMENTS...]
set -euo pipefail
umask 022
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

export CC=gcc
command -v gcc >/dev/null 2>&1 || need_packages "the sanitized build needs gcc" gcc libc6-dev
library=$(gcc -print-file-name=libasan.so)
[ -e "$library" ] || need_packages "gcc has no libasan" libgcc-12-dev
library=$(gcc -print-file-name=libasan.so)
[ -e "$library" ] || die "gcc has no libasan.so; install the package that holds it"
# The file may be a linker script or a link: the loader wants the shared object itself.
library=$(readlink -f "$library")

rm -rf build/asan
say "building with -fsanitize=address,undefined"
OXGEN_SANITIZE=address,undefined build/venv/bin/python setup.py -q build \
    --build-base build/asan --build-lib build/asan/lib >build/asan.log 2>&1 || {
    cat build/asan.log >&2
    die "the sanitized build failed"
}

# The tests whose programs go through launcher and extension; parsers in Python gain nothing here.
selection=("$@")
if [ ${#selection[@]} = 0 ]; then
    for place in tests/core tests/launch tests/many tests/ends tests/control; do
        [ -d "$place" ] && selection+=("$place")
    done
fi
[ ${#selection[@]} -gt 0 ] || die "no test that launches anything was found"

# No `python -m pytest`: that would put the tree, with the ordinary build, before PYTHONPATH.
say "tests against the sanitized build: ${selection[*]}"
# --capture=sys: what a sanitizer writes to descriptor 2 just before it aborts must not be lost.
reports=$root/build/asan/report
status=0
LD_PRELOAD=$library \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:log_path=$reports \
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1:log_path=$reports \
    OXGEN_SANITIZED=$root/build/asan/lib PYTHONDONTWRITEBYTECODE=1 PYTHONMALLOC=malloc \
    PYTHONPATH=$root/build/asan/lib:$root/tests \
    HYPOTHESIS_STORAGE_DIRECTORY=build/hypothesis \
    build/venv/bin/pytest -p no:cacheprovider -p _sanitized --capture=sys "${selection[@]}" </dev/null || status=$?

# A process that died of a fault is seen here even where no test looks at it.
for report in "$reports".*; do
    [ -e "$report" ] || continue
    status=1
    say "a sanitizer reported:"
    head -n 60 "$report" >&2
done
[ "$status" = 0 ] && say "no sanitizer reported anything"
exit "$status"
