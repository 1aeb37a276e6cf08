"""A plugin reaches nobody: not the network, not the host's loopback, not its abstract sockets."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

#: Put up inside the control's own network namespace.
LISTENERS = """
perl -MSocket -e '
    socket(my $udp, PF_INET, SOCK_DGRAM, 0);
    my $lo = pack("Z16 s x22", "lo", 0x41);  # up, running
    ioctl($udp, 0x8914, $lo) or die "lo: $!";  # SIOCSIFFLAGS
    bind($udp, pack_sockaddr_in(4711, INADDR_ANY));
    socket(my $tcp, PF_INET, SOCK_STREAM, 0); bind($tcp, pack_sockaddr_in(4711, INADDR_ANY));
    listen($tcp, 8);
    socket(my $six, PF_INET6, SOCK_STREAM, 0);
    bind($six, pack_sockaddr_in6(4711, "\\0" x 15 . "\\1"));
    listen($six, 8);
    socket(my $un, PF_UNIX, SOCK_STREAM, 0); bind($un, pack("S a*", 1, "\\0control"));
    listen($un, 8);
    open(my $up, ">", "/tmp/up"); close($up);
    sleep 20;
' &
until [ -e /tmp/up ] || ! kill -0 $!; do sleep 0.01; done
"""


class Listeners:
    """What listens on the host: a port of the loopback by TCP and UDP, an abstract socket."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.name = f"@oxgen-test-{secrets.token_hex(8)}"
        self.unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.unix.bind("\0" + self.name[1:])
        self.unix.listen()
        for one in (self.tcp, self.udp, self.unix):
            one.setblocking(False)

    def visited(self) -> bool:
        """Whether anybody has come."""
        for accept in (self.tcp.accept, self.unix.accept, lambda: self.udp.recv(10)):
            try:
                accept()
            except BlockingIOError:
                continue
            return True
        return False

    def close(self) -> None:
        for one in (self.tcp, self.udp, self.unix):
            one.close()


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    """Listeners of the host."""
    one = Listeners()
    yield one
    one.close()


def test_there_is_no_interface_but_a_loopback_that_is_down(portrait: Portrait) -> None:
    assert portrait.interfaces == {"lo": "down"}


@pytest.mark.parametrize("kind", ("tcp4", "tcp6", "udp4", "outside", "outside_udp"))
def test_an_address_cannot_be_reached(probe: Probe, listeners: Listeners, kind: str) -> None:
    answer = probe.answer("connect", listeners.port)[kind]
    if kind in ("tcp4", "tcp6", "outside") and answer == "EACCES":
        return  # Landlock was asked first (tests/core/test_second_wall.py)
    assert answer == ("EADDRNOTAVAIL" if kind == "tcp6" else "ENETUNREACH")


def test_an_abstract_socket_of_the_host_cannot_be_reached(
    probe: Probe, listeners: Listeners
) -> None:
    assert probe.answer("connect", 1, listeners.name)[listeners.name] == "ECONNREFUSED"


def test_nobody_comes_to_the_host(probe: Probe, listeners: Listeners) -> None:
    probe.answer("connect", listeners.port, listeners.name)
    assert not listeners.visited()


@pytest.mark.parametrize("kind", ("tcp4", "tcp6", "udp4", "@control"))
def test_control_outside_it_can_be_reached(unconfined: Unconfined, kind: str) -> None:
    assert unconfined.answer("connect", 4711, "@control", before=LISTENERS)[kind] == "ok"


def test_control_the_host_notices_a_visitor(listeners: Listeners) -> None:
    visit = socket.create_connection(("127.0.0.1", listeners.port), timeout=5)
    visit.close()
    waited = threading.Event()
    for _ in range(100):
        if listeners.visited():
            return
        waited.wait(0.01)
    raise AssertionError("nobody was seen")


def test_sockets_of_its_own_work(probe: Probe) -> None:
    assert probe.answer("pair") == {"works": True}


def test_two_cells_cannot_reach_each_other(probe: Probe, tag: str) -> None:
    import oxgen

    argv = [str(probe.path), "leave", "abstract-socket-of-daemon", tag]
    with (
        oxgen.Launcher(cells=2) as launcher,
        oxgen.spawn([str(probe.path), "announce", "20", tag], tenant="one", launcher=launcher),
    ):
        oxgen.run(argv, tenant="two", launcher=launcher, capture_output=True)
        found = probe.answer("find-traces", tenant="three", launcher=launcher)
    assert found["abstract-socket-of-daemon"] == "ECONNREFUSED"
