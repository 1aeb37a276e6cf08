#!/bin/sh
# Build the C tests with the address and undefined behaviour sanitizers and run them.
#
#   tests/c/run.sh            all
#   CC=clang tests/c/run.sh   with another compiler
#   OUT=DIR FLAGS="-static" tests/c/run.sh build      build only, with other flags than the sanitizers
set -eu
cd "$(dirname "$0")/../.."
out=${OUT:-$(mktemp -d)}
flags=${FLAGS--fsanitize=address,undefined -fno-sanitize-recover=all}
warnings="-std=gnu11 -g -O1 -Wall -Wextra -Werror"
cgroup="csrc/linux/cgroup_base.c csrc/linux/cgroup_rate.c csrc/linux/cgroup_cells.c csrc/linux/cgroup_files.c
        csrc/linux/cgroup_find.c csrc/linux/counters.c csrc/posix/fd.c"

# shellcheck disable=SC2086 # the variables hold lists of words
build() {
    ${CC:-gcc} $warnings $flags -o "$out/$1" "tests/c/$1.c" $2 -pthread
}

build test_seccomp csrc/linux/seccomp.c
build test_seccomp_table csrc/linux/seccomp.c
build test_heap csrc/posix/heap.c
build test_spin csrc/posix/spin.c
build test_tree_remove "csrc/linux/tree_remove.c csrc/posix/fd.c"
build test_plain_paths csrc/linux/plain_paths.c
build test_cgroup "$cgroup"
build test_cgroup_base "$cgroup"
build test_cgroup_text "$cgroup"
build test_cgroup_rate "$cgroup csrc/linux/cgroup_spares.c"
[ "${1:-}" = build ] && exit 0

failed=0
for test in test_seccomp_table test_seccomp test_heap test_spin test_tree_remove test_plain_paths test_cgroup_text test_cgroup test_cgroup_base test_cgroup_rate; do
    timeout 300 "$out/$test" || failed=1
done
[ -n "${OUT:-}" ] || rm -r "$out"
exit $failed
