#!/usr/bin/env bash
# Run the benchmarks, with whatever they are compared with installed first as far as possible.
#
#   scripts/bench.sh all  [ARGS of python -m benchmarks]
#   scripts/bench.sh soak [ARGS of python -m benchmarks.soak]
#
# As root on Debian it installs the tools of other sandboxes; Python packages go into an environment
# of the benchmarks' own, build/bench/venv. What cannot be had is named in the report.
set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

what=${1:-all}
[ $# = 0 ] || shift
case $what in
    all | soak) ;;
    *) die "usage: scripts/bench.sh all|soak [ARGS]" ;;
esac
[ "$(id -u)" = 0 ] || die "the benchmarks need root, as the level namespaces does: run them with sudo"

scripts/bootstrap.sh run
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
mkdir -p build/bench/results

if [ "$what" = soak ]; then
    exec build/venv/bin/python -m benchmarks.soak "$@"
fi

# Each on its own: one that this distribution does not have must not keep the others away.
install_tool() {
    local command=$1 package=$2
    if command -v "$command" >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        return
    fi
    # In a process of its own, because need_packages ends where it fails.
    (need_packages "$command is compared with" "$package") ||
        say "$command will be listed as absent"
}
install_tool bwrap bubblewrap
install_tool firejail firejail
install_tool crun crun
install_tool unshare util-linux

venv=build/bench/venv
packages=(sandlock nono-py wasmtime "matplotlib>=3.5") # matplotlib: as the extra "plot" has it
identity="$(build/venv/bin/python -c 'import sys; print(sys.version)') $root ${packages[*]}"
if [ "$(cat "$venv/.identity" 2>/dev/null)" != "$identity" ]; then
    say "making build/bench/venv"
    rm -rf "$venv"
    build/venv/bin/python -m venv "$venv"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
    missing=0
    for package in "${packages[@]}"; do
        "$venv/bin/python" -m pip install -q "$package" >build/bench/install.log 2>&1 || {
            say "$package cannot be installed (build/bench/install.log); it will be listed as absent"
            missing=1
        }
    done
    # oxgen and its dependencies are those of build/venv.
    "$venv/bin/python" - <<'END'
import os
import sysconfig

ours = sysconfig.get_paths()["purelib"]
theirs = ours.replace(os.path.join("build", "bench", "venv"), os.path.join("build", "venv"))
with open(os.path.join(ours, "oxgen-of-this-tree.pth"), "w", encoding="utf-8") as stream:
    stream.write(f"import site; site.addsitedir({theirs!r})\n")
END
    # Without it the next run tries again.
    [ "$missing" = 1 ] || printf '%s\n' "$identity" >"$venv/.identity"
fi

exec "$venv/bin/python" -m benchmarks "$@"
