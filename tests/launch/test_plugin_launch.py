"""An approved plugin: what was hashed is what runs, with its broker and nothing else beside it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from control import watch
from control.installed import in_path

from oxgen import ManifestError, UsageError
from oxgen.broker import Broker
from oxgen.capabilities import AuditLog, Issuer
from oxgen.integrity import Approved, TrustRoot, approve, approve_files, keygen, sign_file
from oxgen.plugin import run_plugin
from oxgen.process import new_run_id

pytestmark = pytest.mark.root


class Echo:
    """A broker that sends every line back."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.returned = False

    def check_is_for(self, run_id: str) -> None:
        """It serves any run."""

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb", buffering=0) as stream:
            for line in stream:
                self.lines.append(line)
                stream.write(b"you said " + line)
        self.returned = True

    def silent(self) -> None:
        """There was nothing to answer."""

    def close(self) -> None:
        """The end of the plugin is the end of the stream."""


@pytest.fixture
def trusted(tmp_path: Path) -> Callable[..., Path]:
    """Put a program into a trust root as a signed, listed plugin; return its folder."""
    root = tmp_path / "trust"
    (root / "keys").mkdir(parents=True)
    secret = tmp_path / "operator.key"
    keygen(secret, root / "keys" / "operator.pub")

    def put(program: Path, **members: Any) -> Path:
        folder = root / "scan"
        folder.mkdir()
        shutil.copy(program, folder / "artifact")
        manifest = {
            "name": "scan",
            "version": "1.0",
            "entry": "probe",
            "artifact": "artifact",
            "capabilities": ["CAP_EMIT_FINDINGS"],
            **members,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        sign_file(folder / "artifact", secret)
        approve_files(TrustRoot.locate(str(root)), folder)
        return folder

    return put


@pytest.fixture
def approved(trusted: Callable[..., Path], probe_path: Path) -> Iterator[Approved]:
    """The probe as an approved plugin."""
    folder = trusted(probe_path)
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        yield proof


def look(approved: Approved, *words: str, **settings: Any) -> Any:
    """Run it as a plugin and return the JSON that it printed."""
    settings.setdefault("broker", Echo())
    done = run_plugin(approved, token="a-token", args=words, capture_output=True, **settings)
    assert done.returncode == 0, done
    assert done.stdout is not None
    return json.loads(done.stdout)


def test_descriptors_are_0_1_2_and_the_broker(approved: Approved) -> None:
    assert sorted(look(approved)["descriptors"]) == ["0", "1", "2", "3"]


def test_the_broker_is_a_socket(approved: Approved) -> None:
    assert look(approved)["descriptors"]["3"]["type"] == "socket"


def test_the_environment_names_broker_and_token_and_nothing_else_is_added(
    approved: Approved,
) -> None:
    variables = dict(entry.split("=", 1) for entry in look(approved)["environment"])
    assert variables.pop("OXGEN_BROKER") == "fd:3"
    assert variables.pop("OXGEN_CAPABILITY_TOKEN") == "a-token"
    assert sorted(variables) == sorted(
        ("PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "OXGEN_WORKSPACE")
    )


def test_the_broker_is_heard_and_answers(approved: Approved) -> None:
    assert look(approved, "ask-broker", "hello") == {"answer": "you said hello\n"}


def test_the_brokers_thread_has_returned_when_the_run_does(approved: Approved) -> None:
    echo = Echo()
    look(approved, "ask-broker", "hello", broker=echo)
    assert echo.returned


def test_the_program_is_called_by_its_entry(approved: Approved) -> None:
    assert look(approved)["path"] == "/bin/probe"


def test_it_is_nobody(approved: Approved) -> None:
    assert set(look(approved)["uids"].values()) == {65534}


def test_what_was_approved_runs_though_the_file_was_overwritten(
    trusted: Callable[..., Path], probe_path: Path, build_c: Callable[..., Path]
) -> None:
    folder = trusted(probe_path)
    evil = build_c("evil", text="int main(void) { return 66; }\n")
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        (folder / "artifact").write_bytes(evil.read_bytes())
        assert look(proof, "stdin")["end"] == "ok"


def test_what_was_approved_runs_though_another_file_took_its_name(
    trusted: Callable[..., Path], probe_path: Path, build_c: Callable[..., Path]
) -> None:
    folder = trusted(probe_path)
    evil = build_c("evil", text="int main(void) { return 66; }\n")
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        shutil.copy(evil, folder / "new")
        os.replace(folder / "new", folder / "artifact")
        assert look(proof, "stdin")["end"] == "ok"


def test_the_record_has_the_digest_that_was_approved(approved: Approved) -> None:
    done = run_plugin(approved, broker=Echo(), token="t", args=["exit", "0"])
    assert done.artifact_digest == approved.digest


def test_limits_of_the_manifest_hold(trusted: Callable[..., Path], probe_path: Path) -> None:
    folder = trusted(probe_path, limits={"open_files": 33})
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        assert look(proof)["rlimits"]["nofile"] == [33, 33]


def test_a_grandchild_that_keeps_the_broker_open_holds_nothing_up(
    approved: Approved, tag: str
) -> None:
    begin = time.monotonic()
    done = run_plugin(
        approved, broker=Echo(), token="t", args=["orphan", "30", tag], capture_output=True
    )
    assert (done.returncode, done.stdout, done.termination.reason) == (0, b"done\n", None)
    assert time.monotonic() - begin < 3
    assert watch.processes(tag) == []


def broker_for(run_id: str, tmp_path: Path) -> Broker:
    return Broker(
        issuer=Issuer(),
        token_plugin="scan",
        run_id=run_id,
        flows=None,
        on_finding=lambda finding: None,
        audit=AuditLog(tmp_path / "audit.jsonl"),
    )


def test_a_broker_serves_the_run_that_it_was_made_for_and_no_other(
    approved: Approved, tmp_path: Path
) -> None:
    run_id = new_run_id()
    broker = broker_for(run_id, tmp_path)
    for other in (None, new_run_id()):
        with pytest.raises(UsageError, match="the broker was made for run"):
            run_plugin(approved, broker=broker, token="t", run_id=other)
    assert look(approved, broker=broker, run_id=run_id)
    begin = time.monotonic()
    with pytest.raises(UsageError, match="make another one"):
        run_plugin(approved, broker=broker, token="t", run_id=run_id)
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    "settings",
    [
        {"args": "abc"},
        {"args": [1]},
        {"args": None},
        {"args": ["a\0b"]},
        {"args": ["\ud800"]},
        {"token": "a\0b"},
        {"token": 3},
        {"token": ""},
        {"launcher": 3},
        {"launcher": {}},
        {"tenant": []},
        {"task_id": 3},
        {"limits": 3},
    ],
)
def test_a_value_that_is_none_is_refused(approved: Approved, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        run_plugin(approved, **{"broker": Echo(), "token": "t", **settings})


class Fails(Echo):
    """A broker that gives up on the first byte."""

    def serve(self, connection: socket.socket) -> None:
        raise ArithmeticError("not today")


def test_a_broker_that_gives_up_holds_no_plugin_up(approved: Approved) -> None:
    begin = time.monotonic()
    with pytest.raises(ArithmeticError):
        run_plugin(
            approved, broker=Fails(), token="t", args=["ask-broker", "hello"], capture_output=True
        )
    assert time.monotonic() - begin < 3


def test_descriptors_that_a_plugin_sends_are_not_taken(approved: Approved, tmp_path: Path) -> None:
    run_id = new_run_id()
    broker = broker_for(run_id, tmp_path)
    look(approved)  # its cell is there
    before = len(os.listdir("/proc/self/fd"))
    answer = look(approved, "descriptor-flood", "3", "100", broker=broker, run_id=run_id)
    assert answer["sent"] > 0
    # A cell that is replaced and the new one are both there for a moment.
    deadline = time.monotonic() + 10
    while (now := len(os.listdir("/proc/self/fd"))) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert now <= before


class Takes(Echo):
    """A broker that asks for ancillary data, as none should."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def serve(self, connection: socket.socket) -> None:
        with connection:
            while True:
                line, descriptors, _, _ = socket.recv_fds(connection, 1000, 250)
                self.taken += len(descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)
                if not line:
                    return


def test_control_a_host_that_takes_them_gets_them(approved: Approved) -> None:
    broker = Takes()
    answer = look(approved, "descriptor-flood", "3", "10", broker=broker)
    # The kernel lets only so many be under way at once (unix(7), ETOOMANYREFS).
    assert broker.taken == answer["sent"] * 100 > 0


def test_plugin_without_capabilities_can_do_without_a_broker(
    trusted: Callable[..., Path], probe_path: Path
) -> None:
    folder = trusted(probe_path, capabilities=[])
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        done = run_plugin(proof, capture_output=True)
    seen = json.loads(done.stdout or b"")
    assert sorted(seen["descriptors"]) == ["0", "1", "2"]
    assert not [entry for entry in seen["environment"] if entry.startswith("OXGEN_BROKER")]
    assert done.artifact_digest == proof.digest


def test_plugin_with_capabilities_without_a_broker_is_refused(approved: Approved) -> None:
    with pytest.raises(ValueError, match="CAP_EMIT_FINDINGS and no broker"):
        run_plugin(approved)


def test_runs_of_a_plugin_leave_no_thread_and_no_descriptor(approved: Approved) -> None:
    def run(times: int) -> None:
        for number in range(times):
            broker = Echo()
            words = ["ask-broker", "hello"] if number % 10 == 0 else ["exit", "0"]
            run_plugin(approved, broker=broker, token="t", args=words, capture_output=True)

    run(50)
    time.sleep(0.5)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    run(300)
    assert watch.wait_until(
        lambda: (
            threading.active_count() <= threads and len(os.listdir("/proc/self/fd")) <= descriptors
        ),
        10,
    )


def test_a_closed_approval_starts_nothing(approved: Approved) -> None:
    copy = approved.again()
    assert run_plugin(copy, broker=Echo(), token="t", args=["exit", "0"]).returncode == 0
    copy.close()
    with pytest.raises(UsageError, match="closed"):
        run_plugin(copy, broker=Echo(), token="t")


def test_an_unapproved_program_is_no_plugin(probe_path: Path) -> None:
    with pytest.raises(ValueError, match="approved"):
        run_plugin(str(probe_path), broker=Echo(), token="t")  # type: ignore[arg-type]


# --- scripts --------------------------------------------------------------------------------------

JAVASCRIPT = """
const fs = require("fs");
fs.writeSync(3, "hello\\n");
const answer = Buffer.alloc(64);
const size = fs.readSync(3, answer);
console.log(JSON.stringify([answer.toString("utf8", 0, size), process.env.OXGEN_BROKER]));
"""
SHELL = """#!/bin/sh
echo hello >&3
read -r answer <&3
printf '["%s\\\\n","%s"]' "$answer" "$OXGEN_BROKER"
"""


@pytest.mark.parametrize(
    ("runtime", "text", "interpreter"), (("node", JAVASCRIPT, "node"), ("auto", SHELL, "sh"))
)
def test_a_plugin_in_another_language_talks_to_its_broker(
    trusted: Callable[..., Path], tmp_path: Path, runtime: str, text: str, interpreter: str
) -> None:
    in_path(interpreter)
    script = tmp_path / "script"
    script.write_text(text)
    folder = trusted(script, runtime=runtime)
    with approve(folder, TrustRoot.locate(str(folder.parent))) as proof:
        assert look(proof) == ["you said hello\n", "fd:3"]


@pytest.mark.parametrize("runtime", ("python", "node"))
def test_an_elf_artifact_is_not_approved_as_a_script(
    trusted: Callable[..., Path], probe_path: Path, runtime: str
) -> None:
    with pytest.raises(ManifestError, match=f"is '{runtime}', and the artifact"):
        trusted(probe_path, runtime=runtime)
