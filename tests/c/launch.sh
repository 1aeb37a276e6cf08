#!/bin/sh
# Build the launch tests, the launcher and the probe into one directory, all of them static.
#
#   tests/c/launch.sh DIRECTORY
#   CC=clang tests/c/launch.sh DIRECTORY
#   FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all" tests/c/launch.sh DIRECTORY    the tests with other
#       flags than -static
#
# Then, as root: DIRECTORY/launch_driver, launch_cells, launch_cgroups, launch_ends, launch_loop, launch_nets,
# launch_nobody; launch_places in a machine that is thrown away.
set -eu
cd "$(dirname "$0")/../.."
out=$1
# -iquote: with -I, <linux/seccomp.h> would be that of csrc.
flags="-std=gnu11 -g -O2 -Wall -Wextra -Werror -iquote csrc"
core="csrc/stage.c $(echo csrc/posix/*.c csrc/linux/*.c)"

# shellcheck disable=SC2086 # the variables hold lists of words
build() {
    name=$1
    shift
    ${CC:-gcc} $flags -o "$out/$name" "$@" -pthread
}

# shellcheck disable=SC2086
{
    build launcher -static csrc/launcher_main.c $core
    for test in launch_driver launch_cells launch_cgroups launch_ends launch_loop launch_nets \
        launch_nobody launch_places; do
        build $test ${FLAGS--static} tests/c/$test.c $core
    done
}
build probe -static tests/c/launch_probe.c tests/c/launch_sockets.c
