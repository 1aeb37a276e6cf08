#!/usr/bin/env bash
# The longer check of confinement: tests of it inside virtual machines with Debian's kernels, as root
# and as an ordinary user. tests/vm/run.sh does the same for the tests in C.
#
#   scripts/vm.sh [--docs] [KERNEL...]     5.10, 6.1, 6.12, newest (all of them), or the path of a vmlinuz
#
# --docs writes docs/kernels.md. Kernels are downloaded once into build/vm/kernels, results are in
# build/vm/results. Neither root nor KVM is needed; a kernel takes three to five minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

missing=()
command -v qemu-system-x86_64 >/dev/null 2>&1 || missing+=(qemu-system-x86)
command -v busybox >/dev/null 2>&1 || missing+=(busybox)
[ ${#missing[@]} = 0 ] || need_packages "virtual machines need ${missing[*]}" "${missing[@]}"
scripts/bootstrap.sh test
exec build/venv/bin/python tests/vm/boot.py "$@"
