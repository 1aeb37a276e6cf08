#!/bin/sh
# Print the path of a Debian kernel, which is downloaded once and kept.
#
#   tests/vm/fetch.sh 5.10 | 6.1 | 6.12 | newest
#
# The package comes by apt from deb.debian.org (OXGEN_VM_MIRROR: another mirror), checked against the
# machine's own keyring, into ${OXGEN_VM_CACHE:-build/vm/kernels}/<version>; "newest" is what Debian's
# unstable has that day. Nothing is installed and the machine's apt sources stay as they are. Remove
# that directory to get a newer package.
set -eu
cd "$(dirname "$0")/../.."
mirror=${OXGEN_VM_MIRROR:-http://deb.debian.org}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

case ${1:-} in
5.10) suite="$mirror/debian-security bullseye-security" ;;
6.1) suite="$mirror/debian-security bookworm-security" ;;
6.12) suite="$mirror/debian bookworm-backports" ;;
newest) suite="$mirror/debian sid" ;;
*)
    echo "tests/vm/fetch.sh: no kernel ${1:-given}; known are 5.10, 6.1, 6.12, newest" >&2
    exit 2
    ;;
esac

# depends PACKAGE KIND: the first linux-KIND-VERSION that the package depends on.
depends() {
    apt-cache depends "$1" | sed -n "s/.*Depends: \\(linux-$2-[0-9][^ ]*\\)\$/\\1/p" | head -n 1
}

cache=${OXGEN_VM_CACHE:-build/vm/kernels}
mkdir -p "$cache"
kept=$(cd "$cache" && pwd -P)/$1
if [ ! -e "$kept/vmlinuz" ]; then
    mkdir -p "$kept"
    work=$(mktemp -d "$kept/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    echo "deb [arch=amd64 signed-by=$keyring] $suite main" >"$work/sources"
    # Sources, lists and cache of our own.
    cat >"$work/apt.conf" <<EOF
Dir::Etc::SourceList "$work/sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
EOF
    # Mirrors keep old states of it, and what is tried is thrown away.
    [ "$1" != newest ] || echo 'Acquire::Check-Valid-Until "false";' >>"$work/apt.conf"
    export APT_CONFIG="$work/apt.conf"
    # What apt says in between is only of interest when it fails.
    exec 3>&1 >"$work/log"
    if ! {
        timeout 300 apt-get update &&
            name=$(depends linux-image-amd64 image) &&
            [ -n "$name" ] &&
            # Since Linux 7 that one is empty, and the kernel lies in one of its own.
            binary=$(depends "$name" binary) &&
            (cd "$work" && timeout 600 apt-get download "${binary:-$name}") &&
            dpkg -x "$work/${binary:-$name}"_*.deb "$work/package" &&
            image=$(find "$work/package" -name 'vmlinuz*' -type f) &&
            mv "$image" "$work/vmlinuz"
    } 2>&1; then
        tail -n 5 "$work/log" >&2
        echo "tests/vm/fetch.sh: no package of Linux $1 in $suite" >&2
        exit 1
    fi
    exec >&3
    echo "$name" >"$kept/package"
    mv "$work/vmlinuz" "$kept/vmlinuz"
fi
echo "$kept/vmlinuz"
