#!/usr/bin/env bash
# Set up build/venv and show what oxgen does: scripts/demo.py says what there is to see.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# Before anything is installed or built: the demonstration shows the strongest level.
if [ "$(id -u)" != 0 ]; then
    die "the demonstration needs root: each cell gets user ids and a cgroup of its own, which an" \
        "ordinary user cannot hand out; run it as root (sudo make demo) on a machine for trials"
fi
scripts/bootstrap.sh run
exec build/venv/bin/python scripts/demo.py
