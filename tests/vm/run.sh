#!/bin/sh
# Run the C tests inside a Debian kernel in qemu: cgroup version 2 with real controllers, and one hierarchy of
# version 1 that holds all controllers, on whatever the machine itself has.
#
#   tests/vm/run.sh [PACKAGE.deb]     a linux-image package; by default that of linux-image-amd64 is downloaded
#
# Needs qemu-system-x86_64, gcc with a static libc, dpkg and python3. Nothing is installed,
# nothing is mounted. Exit status 0: all passed in every layout.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ $# -gt 0 ]; then
    package=$(realpath "$1")
else
    name=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    (cd "$work" && apt-get download "$name" >/dev/null)
    package=$(echo "$work"/linux-image-*.deb)
fi
dpkg -x "$package" "$work/kernel"
kernel=$(echo "$work"/kernel/boot/vmlinuz-*)

mkdir -p "$work/root/bin"
OUT="$work/root" FLAGS="-static" "$root/tests/c/run.sh" build
gcc -std=gnu11 -O1 -Wall -Wextra -Werror -static -o "$work/root/init" tests/vm/init.c
cp "$work/root/init" "$work/root/bin/true"
python3 tests/vm/newc.py "$work/root" >"$work/initramfs"

failed=0
for layout in v2 together; do
    timeout 240 qemu-system-x86_64 -M q35 -m 1024 -smp 2 -nographic -no-reboot -nodefaults -serial stdio \
        -kernel "$kernel" -initrd "$work/initramfs" \
        -append "console=ttyS0 quiet panic=-1 layout=$layout" </dev/null | tee "$work/$layout.log"
    grep -q "^RESULT $layout: passed" "$work/$layout.log" || failed=1
    # A skip would mean that the tests found no cgroups at all.
    ! grep -q '^skipped' "$work/$layout.log" || failed=1
done
exit $failed
