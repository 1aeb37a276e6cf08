#!/usr/bin/env bash
# Fail if building or testing left something in the work tree that git neither knows nor ignores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! git -c safe.directory="$PWD" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    echo "no git work tree: not checked"
    exit 0
fi
left=$(git -c safe.directory="$PWD" status --porcelain)
if [ -n "$left" ]; then
    printf 'the work tree is not clean:\n%s\n' "$left"
    exit 1
fi
echo "the work tree is clean"
