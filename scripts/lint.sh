#!/usr/bin/env bash
# Everything that can be said about the sources without running them.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

missing=()
for tool in gcc clang; do
    command -v "$tool" >/dev/null 2>&1 || missing+=("$tool")
done
[ ${#missing[@]} = 0 ] || need_packages "lint needs ${missing[*]}" "${missing[@]}" libc6-dev

status=0
step() {
    printf '== %s\n' "$1"
    shift
    "$@" || {
        status=1
        printf '   failed: %s\n' "$*"
    }
}

compile_all() {
    local compiler=$1 failed=0 file
    for file in "${c_files[@]}"; do
        # -O2: without it the compiler does not see what is used uninitialised.
        "$compiler" -std=gnu11 -O2 -Wall -Wextra -Werror -iquote csrc -c -o /dev/null "$file" || failed=1
    done
    return "$failed"
}

# The names of the files are enough: `make format` lays them out.
check_format() {
    local failed=0 file
    for file in "${format_files[@]}"; do
        "$formatter" --dry-run -Werror "$file" 2>/dev/null || {
            printf '   not as clang-format has it: %s\n' "$file"
            failed=1
        }
    done
    return "$failed"
}

mapfile -t c_files < <(find csrc examples scripts tests benchmarks -name '*.c' | LC_ALL=C sort)
mapfile -t format_files < <(find csrc examples scripts tests benchmarks -name '*.[ch]' | LC_ALL=C sort)
mapfile -t shell_files < <(find scripts .ci -type f \( -name '*.sh' -o -path .ci/run \) | LC_ALL=C sort)

step "ruff check" build/venv/bin/ruff check .
step "ruff format" build/venv/bin/ruff format --check .
step "mypy --strict" build/venv/bin/mypy --strict oxgen oxgenctl.py benchmarks
step "gcc -Wall -Wextra -Werror" compile_all gcc
step "clang -Wall -Wextra -Werror" compile_all clang

# Another major version lays code out otherwise, so only the pinned one judges.
formatter=""
for candidate in clang-format-14 clang-format; do
    if "$candidate" --version 2>/dev/null | grep -q ' version 14\.'; then
        formatter=$candidate
        break
    fi
done
if [ -n "$formatter" ]; then
    step "clang-format" check_format
else
    echo "== clang-format: version 14 is not here, not checked"
fi
if command -v shellcheck >/dev/null 2>&1; then
    step "shellcheck" shellcheck -x -e SC2317 "${shell_files[@]}"
else
    echo "== shellcheck: not here, not checked"
fi
[ "$status" = 0 ] && echo "lint: clean"
exit "$status"
