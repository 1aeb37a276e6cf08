"""Service: who answers when a plugin speaks, and that no plugin holds up another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oxgen import UsageError
from oxgen.broker import Broker
from oxgen.capabilities import AuditLog, Capability, Issuer
from oxgen.errors import LaunchError
from oxgen.findings import Finding
from oxgen.plugin import connection as connection_module
from oxgen.plugin import service as service_module
from oxgen.plugin.connection import Connection

FINDING = {"type": "test.thing", "message": "a thing", "severity": "low"}
DEADLINE_SECONDS = 20.0


class Plugin:
    """A plugin's end, without a plugin: what it would write, and what it reads."""

    def __init__(self, on_finding: Callable[[Finding], None] = print, path: Any = None) -> None:
        self.findings: list[Finding] = []
        self.audit = AuditLog(path)
        issuer = Issuer()
        self.token = issuer.grant(plugin="scan", run_id="run", capabilities=tuple(Capability))
        self.broker = Broker(
            issuer=issuer,
            token_plugin="scan",
            run_id="run",
            flows=None,
            on_finding=self.findings.append if on_finding is print else on_finding,
            audit=self.audit,
        )
        self.connection = Connection(self.broker)
        self.end = socket.socket(fileno=os.dup(self.connection.theirs))
        self.end.settimeout(DEADLINE_SECONDS)
        self.connection.begin()

    def send(self, method: str, **params: object) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.end.sendall(json.dumps(call).encode() + b"\n")

    def answer(self) -> Any:
        text = b""
        while not text.endswith(b"\n"):
            text += self.end.recv(65536)
        return json.loads(text)

    def hello(self) -> float:
        """Say hello, return the seconds until the answer."""
        begun = time.monotonic()
        self.send("hello", token=self.token)
        assert "result" in self.answer()
        return time.monotonic() - begun

    def finish(self) -> None:
        """The plugin ends, then the run does."""
        self.end.close()
        self.connection.end()
        self.audit.close()


@contextlib.contextmanager
def plugin(*args: Any, **kwargs: Any) -> Iterator[Plugin]:
    one = Plugin(*args, **kwargs)
    try:
        yield one
    finally:
        one.finish()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads that nobody needs end at once."""
    monkeypatch.setattr(service_module, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(service_module, "_service", None)
    yield
    assert wait_until(lambda: not threads_of_the_service())


def threads_of_the_service() -> list[threading.Thread]:
    service = service_module._service
    return [] if service is None else list(service._idle)


def wait_until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_plugin_that_speaks_is_answered() -> None:
    with plugin() as one:
        one.hello()


def test_silent_plugin_leaves_its_record_and_wakes_nobody(tmp_path: Any) -> None:
    path = tmp_path / "audit"
    with plugin(path=path) as one:
        waiting = set(threads_of_the_service())
        begun = time.monotonic()
    assert time.monotonic() - begun < 1
    assert waiting <= set(threads_of_the_service())
    (record,) = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert (record["event"], record["reason"], record["token_id"]) == (
        "plugin_disconnect",
        "eof",
        None,
    )
    assert one.broker.failure is None


def test_what_a_plugin_said_in_its_last_moment_counts() -> None:
    for number in range(300):
        with plugin() as one:
            if number % 3:
                time.sleep(number / 1e6)
            one.send("hello", token=one.token)
            one.send("findings.emit", **FINDING)
            one.end.close()
        assert len(one.findings) == 1, number


def test_half_close_without_a_word_is_a_session_that_ended(tmp_path: Any) -> None:
    path = tmp_path / "audit"
    with plugin(path=path) as one:
        one.end.shutdown(socket.SHUT_WR)
        assert wait_until(lambda: path.read_bytes())
    (record,) = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert record["reason"] == "eof"


def test_plugins_end_that_somebody_else_holds_holds_nothing_up() -> None:
    with plugin() as one:
        kept = one.end.dup()
        begun = time.monotonic()
    with kept, pytest.raises(BrokenPipeError):
        kept.send(b"late")
    assert time.monotonic() - begun < 1


def test_passed_descriptors_of_a_silent_plugin_are_closed() -> None:
    before = None
    for _ in range(5):
        with plugin() as one, contextlib.suppress(OSError):
            socket.send_fds(one.end, [b"x"], [0] * 50)
        before = before or open_descriptors()
    assert wait_until(lambda: open_descriptors() <= (before or 0))


def test_flood_of_one_run_does_not_delay_the_hello_of_another() -> None:
    stop = threading.Event()

    def flood(one: Plugin) -> None:
        line = b'{"jsonrpc":"2.0","method":"flows.next"}\n' * 500
        with contextlib.suppress(OSError):
            while not stop.is_set():
                one.end.sendall(line)

    with contextlib.ExitStack() as held:
        floods = [held.enter_context(plugin()) for _ in range(2)]
        for one in floods:
            one.hello()
        threads = [threading.Thread(target=flood, args=(one,), daemon=True) for one in floods]
        for thread in threads:
            thread.start()
        try:
            taken = []
            for _ in range(30):
                with plugin() as other:
                    taken.append(other.hello())
        finally:
            stop.set()
            for one in floods:
                one.connection._broker.close()
            for thread in threads:
                thread.join(DEADLINE_SECONDS)
    assert statistics.median(taken) < 0.5, taken
    assert max(taken) < 5, taken


def test_handler_that_takes_long_holds_up_its_own_run_only() -> None:
    released = threading.Event()
    with contextlib.ExitStack() as held:
        held.callback(released.set)
        slow = [
            held.enter_context(plugin(on_finding=lambda finding: released.wait(DEADLINE_SECONDS)))
            for _ in range(10)
        ]
        for one in slow:
            one.hello()
            one.send("findings.emit", **FINDING)
        with plugin() as other:
            assert other.hello() < 2
        released.set()
        assert all("result" in one.answer() for one in slow)


def test_a_thousand_runs_leave_no_thread_and_no_descriptor(short: None) -> None:
    with plugin() as one:
        one.hello()
    threads, descriptors = threading.active_count(), open_descriptors()
    for number in range(1000):
        with plugin() as one:
            if number % 10 == 0:
                one.hello()
    assert threading.active_count() <= threads + service_module._IDLE_MOST
    assert wait_until(lambda: not threads_of_the_service())
    assert threading.active_count() <= threads
    assert open_descriptors() <= descriptors


def test_run_after_the_threads_have_ended_is_answered(short: None) -> None:
    for _ in range(3):
        with plugin() as one:
            one.hello()
        assert wait_until(lambda: not threads_of_the_service())


def test_plugin_that_speaks_late_is_answered(short: None) -> None:
    with plugin() as one:
        time.sleep(0.5)
        one.hello()


def test_runs_at_once_each_have_their_answer() -> None:
    def one_after_the_other(failed: list[BaseException]) -> None:
        try:
            for number in range(60):
                with plugin() as one:
                    if number % 2:
                        one.hello()
        except BaseException as failure:
            failed.append(failure)

    failed: list[BaseException] = []
    threads = [threading.Thread(target=one_after_the_other, args=(failed,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed


def test_what_serve_raises_is_raised_where_the_run_is() -> None:
    with pytest.raises(UsageError, match="serves one connection"), plugin() as one:
        one.hello()
        again = Connection(one.broker)
        try:
            again.begin()
        finally:
            again.end()


def test_a_forked_child_serves_its_own_and_leaves_its_parents_alone() -> None:
    with plugin() as one:
        child = os.fork()
        if child == 0:
            try:
                with plugin() as own:
                    own.hello()
                os._exit(0)
            finally:
                os._exit(1)
        assert one.hello() < 5
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_child_that_was_forked_off_meanwhile_holds_no_run_up() -> None:
    """It has a copy of the plugin's end, which so never ends."""
    child = 0
    try:
        begun = time.monotonic()
        with plugin() as one:
            child = os.fork()
            if child == 0:
                try:
                    time.sleep(20)
                finally:
                    os._exit(0)
            one.hello()
        assert time.monotonic() - begun < 3
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_no_thread_left_is_a_refusal_that_says_so(
    short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    before = open_descriptors()
    with pytest.raises(LaunchError, match="no thread"):
        Plugin()
    assert open_descriptors() <= before + 1  # the service's own


def test_no_descriptor_left_is_a_refusal_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(connection_module._socket, "socketpair", refuse)
    with pytest.raises(LaunchError, match="Too many open files"):
        Plugin()


class Interrupt(Exception):
    """What the handler of a signal raises, anywhere."""


def test_interrupts_anywhere_leak_nothing(short: None) -> None:
    """A signal handler raises at a moment that moves through the whole of a silent run."""

    armed = False

    def interrupt(number: int, frame: object) -> None:
        if armed:
            raise Interrupt

    class Quiet:
        def check_is_for(self, run_id: str) -> None:
            return

        def serve(self, connection: socket.socket) -> None:
            connection.close()

        def silent(self) -> None:
            return

        def close(self) -> None:
            return

    def run() -> None:
        with Connection(Quiet()) as connection:
            connection.begin()
            connection.end()

    run()
    before = open_descriptors()
    old = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for number in range(2000):
            try:
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, (number % 100 + 1) * 1e-6)
                    run()
                    run()
                finally:
                    armed = False
            except Interrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert interrupted > 200
    assert wait_until(lambda: open_descriptors() <= before), (before, open_descriptors())
    with plugin() as one:
        assert one.hello() < 5
