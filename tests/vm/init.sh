#!/usr/bin/busybox sh
# shellcheck shell=dash
# Pid 1 of a throw-away virtual machine: makes of it what systemd makes of a machine, runs the tests,
# powers off.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LANG=C.UTF-8 HOME=/root

# The first root of a kernel cannot be the old root of pivot_root(2), which a cell needs. The same
# files mounted once more can.
if [ "${1:-}" != second ]; then
    busybox mkdir -p /new
    busybox mount --bind / /new
    cd /new || exit
    busybox mount --move . /
    exec busybox chroot . /init second
fi

cd /
mkdir -p /proc /sys /dev /run /tmp /var/tmp /root /home/user
mount --make-rshared /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,noexec devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t devpts -o nosuid,noexec,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp
chmod 1777 /var/tmp
chown 1000:1000 /home/user
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup
busybox ip link set lo up
# Tests reserve more address space than there is memory, which a machine with more would let them.
echo 1 >/proc/sys/vm/overcommit_memory

# What is said is for whoever looks on, the answer goes out by the second serial line.
/python -u /oxgen/tests/vm/inside.py /dev/ttyS1
echo "tests/vm/inside.py: exit status $?"
busybox sync
busybox poweroff -f
