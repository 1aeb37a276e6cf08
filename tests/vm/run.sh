#!/bin/sh
# The longer check: run the C tests, and the whole launch core with them, in Debian kernels under
# qemu, with all controllers in cgroup version 2 and, in 6.1, in one hierarchy of version 1, and with
# memory in version 1 and the others in version 2.
#
#   tests/vm/run.sh                 Linux 5.10, 6.1 and 6.12; one that cannot be had is named and left out
#   tests/vm/run.sh KERNEL...       these: 5.10, 6.1, 6.12, or the path of a vmlinuz
#   LAYOUTS="v2 together" tests/vm/run.sh [KERNEL...]    other layouts than those
#
# Needs qemu-system-x86_64, gcc with a static libc, apt, dpkg and python3, but neither root nor KVM. Nothing
# is installed or mounted; kernels are kept as tests/vm/fetch.sh says. Exit status 0: at least one
# kernel ran, and all passed.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/root/bin"
OUT="$work/root" FLAGS="-static" tests/c/run.sh build
tests/c/launch.sh "$work/root"
gcc -std=gnu11 -O1 -Wall -Wextra -Werror -static -o "$work/root/init" tests/vm/init.c
cp "$work/root/init" "$work/root/bin/true"
python3 tests/vm/newc.py "$work/root" >"$work/initramfs"

# NAME KERNEL LAYOUT. The machine's exit status says nothing, its last line does.
boot() {
    begun=$(date +%s)
    timeout 600 qemu-system-x86_64 -M q35 -m 1024 -smp 2 -nographic -no-reboot -nodefaults -serial stdio \
        -kernel "$2" -initrd "$work/initramfs" \
        -append "console=ttyS0 quiet loglevel=2 panic=-1 layout=$3" </dev/null | tr -d '\r' | tee "$work/log" || true
    # A skip would mean that the tests found no cgroups at all.
    if grep -q "^RESULT $3: passed" "$work/log" && ! grep -q '^skipped' "$work/log"; then
        word=passed
    else
        word=FAILED
        failed=1
    fi
    echo "$word: $1 $3: $(grep -c '^ok ' "$work/log" || true) ok, $(grep -c '^FAILED ' "$work/log" || true) failed," \
        "$(grep -c '^skipped ' "$work/log" || true) skipped, $(($(date +%s) - begun)) s" | tee -a "$work/summary"
}

failed=0
for kernel in "${@:-5.10 6.1 6.12}"; do
    # shellcheck disable=SC2086 # the default is one word that holds three
    for name in $kernel; do
        if [ -f "$name" ]; then
            image=$name
        elif ! image=$(tests/vm/fetch.sh "$name"); then
            echo "left out: $name: its package cannot be had here" | tee -a "$work/summary"
            [ $# -eq 0 ] || failed=1
            continue
        fi
        layouts=v2
        [ "$name" != 6.1 ] || layouts="v2 together mixed"
        for layout in ${LAYOUTS:-$layouts}; do
            boot "$name" "$image" "$layout"
        done
    done
done
echo
cat "$work/summary"
grep -q '^passed' "$work/summary" || failed=1
exit $failed
