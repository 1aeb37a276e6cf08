# Sourced by the other scripts: find or install what the system must provide.
# shellcheck shell=bash

say() {
    printf 'oxgen: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# need_packages REASON PACKAGE...: install Debian packages as root, else print the one line to run.
need_packages() {
    local reason=$1
    shift
    local line="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null 2>&1; then
        die "$reason; this machine has no apt-get: install what corresponds to Debian's $*" \
            "(Fedora: gcc glibc-static python3-devel; Alpine: build-base linux-headers python3-dev)"
    fi
    if [ "$(id -u)" != 0 ]; then
        say "$reason; run this, then try again:"
        printf '    sudo %s\n' "$line" >&2
        exit 1
    fi
    say "$reason: installing $*"
    # A fresh machine has no package lists yet, an old one may have stale ones. Standard input is
    # closed, so that no package asks.
    local log=build/packages.log
    mkdir -p build
    # shellcheck disable=SC2086
    if ! DEBIAN_FRONTEND=noninteractive $line -qq </dev/null >"$log" 2>&1; then
        apt-get update -qq </dev/null >>"$log" 2>&1 ||
            say "apt-get update failed; trying with the lists there are"
        # shellcheck disable=SC2086
        if ! DEBIAN_FRONTEND=noninteractive $line -qq </dev/null >>"$log" 2>&1; then
            tail -n 20 "$log" >&2
            die "could not run: $line"
        fi
    fi
}

# compiles [CC ARGS...] < TEXT: whether the compiler takes the program on standard input.
compiles() {
    "${CC:-cc}" "$@" -x c -o /dev/null - >/dev/null 2>&1
}
