"""Files go in and come out at every level; what a policy opens is had or refused, never dropped."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from control import programs

import oxgen
from oxgen import Enforce, Mount, Sandbox, UnsupportedError

LEVELS = ("namespaces", "chroot") if os.geteuid() == 0 else ("namespaces", "landlock")
WORKSHOP = Path(__file__).parents[1] / "launch" / "workshop.c"
#: Each with what its record says.
OPENED: dict[str, dict[str, Any]] = {
    "exec_tmp": {"exec_tmp": True},
    "network=host": {"network": "host"},
    "mount=/usr/share/zoneinfo": {"mounts": (Mount("/usr/share/zoneinfo"),)},
}


@pytest.fixture(scope="module")
def workshop() -> str:
    return str(programs.build_c("workshop", sources=(WORKSHOP,)))


@pytest.fixture(params=LEVELS)
def box(request: pytest.FixtureRequest) -> Sandbox:
    """A policy of this level, or a skip where this machine does not have it."""
    box = Sandbox(level=request.param, enforce=Enforce.BEST_EFFORT)
    held = oxgen.probe(box)
    if held.level is None:
        pytest.skip(f"needs-level: {held.cause}")
    return box


def test_files_go_in_and_come_out(workshop: str, box: Sandbox) -> None:
    steps = ["show:in/file", "write:out:result", "symlink:way:/etc/hostname", "mkdir:d", "pipe:p"]
    done = oxgen.run(
        [workshop, *steps],
        files={"in/file": b"given"},
        collect=["in/file", "out", "way", "d", "p", "none"],
        sandbox=box,
        capture_output=True,
    )
    assert done.stdout is not None and done.stdout.startswith(b"given 644 ")
    assert {name: found.content or found.skipped for name, found in done.collected.items()} == {
        "in/file": b"given",
        "out": b"result",
        "way": "link",
        "d": "directory",
        "p": "pipe",
        "none": "missing",
    }


def test_the_next_run_finds_none_of_them(workshop: str, box: Sandbox) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        for _ in range(3):
            words = [workshop, "show:in"]
            oxgen.run(words, files={"in": b"x"}, collect=["in"], sandbox=box, launcher=launcher)
            done = oxgen.run(
                words, collect=["in"], sandbox=box, launcher=launcher, capture_output=True
            )
            assert (done.stdout, done.collected["in"].skipped) == (b"2\n", "missing")


@pytest.mark.parametrize("name", OPENED)
def test_what_is_opened_is_in_the_record_or_refused(workshop: str, box: Sandbox, name: str) -> None:
    opened = Sandbox(level=box.level, enforce=Enforce.BEST_EFFORT, **OPENED[name])
    by_user = os.geteuid() != 0 and name == "network=host"
    if box.level == "namespaces" and not by_user:
        done = oxgen.run([workshop], sandbox=opened)
        assert (done.returncode, done.confinement.exceptions) == (0, (name,))
        return
    with pytest.raises(UnsupportedError):
        oxgen.run([workshop], sandbox=opened)
    assert oxgen.run([workshop], sandbox=box).returncode == 0


def test_a_host_network_that_is_in_the_record_is_the_hosts(build_c: Any) -> None:
    reach = build_c(
        "reach",
        text="#include <arpa/inet.h>\n#include <stdlib.h>\n#include <sys/socket.h>\n"
        "int main(int argc, char **argv) {\n"
        "    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };\n"
        "    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);\n"
        "    int fd = socket(AF_INET, SOCK_STREAM, 0);\n"
        "    return argc != 2 || connect(fd, (void *)&to, sizeof(to));\n"
        "}\n",
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [str(reach), str(server.getsockname()[1])]
        usual = Sandbox(enforce=Enforce.BEST_EFFORT)
        assert oxgen.run(words, sandbox=usual).returncode != 0
        try:
            done = oxgen.run(words, sandbox=Sandbox(network="host", enforce=Enforce.BEST_EFFORT))
        except UnsupportedError:
            assert os.geteuid() != 0
        else:
            assert (done.returncode, done.confinement.exceptions) == (0, ("network=host",))
