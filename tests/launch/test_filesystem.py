"""A static program sees four directories, may write to three places, executes nothing it wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import oxgen

if TYPE_CHECKING:
    from control.confined import Portrait, Probe
    from control.unconfined import Unconfined

pytestmark = pytest.mark.root

WRITABLE = ("/home/plugin", "/workspace", "/tmp")
READ_ONLY = ("/", "/bin", "/home")

GO_READS_PASSWD = """
package main

import (
	"fmt"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	fmt.Println("read", len(text) > 0)
}
"""


def test_root_holds_four_directories(portrait: Portrait) -> None:
    assert sorted(portrait.places["/"]["entries"]) == ["bin", "home", "tmp", "workspace"]


def test_bin_holds_the_program_and_nothing_else(portrait: Portrait) -> None:
    assert portrait.places["/bin"]["entries"] == ["probe"]


def test_program_has_the_path_that_the_documentation_names(portrait: Portrait) -> None:
    assert portrait.path == "/bin/probe"


@pytest.mark.parametrize("place", WRITABLE)
def test_writable_place_is_empty_at_the_start(portrait: Portrait, place: str) -> None:
    assert portrait.places[place]["entries"] == []


@pytest.mark.parametrize("place", WRITABLE)
def test_writable_place_is_mounted_nosuid_nodev_noexec(portrait: Portrait, place: str) -> None:
    mount = portrait.places[place]
    assert (mount["nosuid"], mount["nodev"], mount["noexec"]) == (True, True, True)


@pytest.mark.parametrize("place", (*READ_ONLY, "/bin/probe"))
def test_other_places_are_mounted_read_only(portrait: Portrait, place: str) -> None:
    mount = portrait.places[place]
    assert (mount["read_only"], mount["nosuid"], mount["nodev"]) == (True, True, True)


@pytest.mark.parametrize("place", WRITABLE)
def test_files_can_be_made_in_a_writable_place(probe: Probe, place: str) -> None:
    assert probe.answer("write", place) == {place: "ok"}


@pytest.mark.parametrize("place", READ_ONLY)
def test_files_cannot_be_made_elsewhere(probe: Probe, place: str) -> None:
    assert probe.answer("write", place) == {place: "EROFS"}


def test_control_files_can_be_made_beside_the_program_outside(unconfined: Unconfined) -> None:
    assert unconfined.answer("write", "/tmp/box") == {"/tmp/box": "ok"}


@pytest.mark.parametrize("place", WRITABLE)
def test_a_written_file_cannot_be_executed(probe: Probe, place: str) -> None:
    assert probe.answer("execute-from", place) == {place: {"copy": "ok", "execute": "EACCES"}}


def test_control_a_written_file_can_be_executed_outside(unconfined: Unconfined) -> None:
    answer = unconfined.answer("execute-from", "/tmp/box")
    assert answer == {"/tmp/box": {"copy": "ok", "execute": "ok"}}


def test_passwd_cannot_be_read_by_a_c_program(probe: Probe) -> None:
    answer = probe.answer("read", "/etc/passwd")
    assert answer == {"/etc/passwd": {"read": "ENOENT", "text": ""}}


def test_control_passwd_can_be_read_outside(unconfined: Unconfined) -> None:
    answer = unconfined.answer("read", "/etc/passwd")["/etc/passwd"]
    assert answer["read"] == "ok" and "root:" in answer["text"]


def test_passwd_cannot_be_read_by_a_go_program(build_go: Callable[[str, str], Path]) -> None:
    program = build_go("reader", GO_READS_PASSWD)
    done = oxgen.run([str(program), "/etc/passwd"], capture_output=True)
    assert done.stdout == b"refused: open /etc/passwd: no such file or directory\n"


def test_own_program_can_be_read_by_a_go_program(build_go: Callable[[str, str], Path]) -> None:
    program = build_go("reader", GO_READS_PASSWD)
    done = oxgen.run([str(program), "/bin/reader"], capture_output=True)
    assert done.stdout == b"read true\n"


@pytest.mark.parametrize(
    "path",
    ("/proc/self/exe", "/proc/1/environ", "/sys/kernel", "/dev/null", "/etc/shadow", "/root"),
)
def test_static_cell_has_no_system_files(probe: Probe, path: str) -> None:
    assert probe.answer("read", path)[path]["read"] == "ENOENT"


def test_program_starts_in_the_workspace(portrait: Portrait) -> None:
    assert portrait.cwd == "/workspace"


def test_working_directory_can_be_chosen(probe: Probe) -> None:
    assert probe.look(sandbox=oxgen.Sandbox(cwd="/tmp")).cwd == "/tmp"


def test_writable_places_belong_to_the_plugin(portrait: Portrait) -> None:
    owners = {portrait.places[place]["uid"] for place in WRITABLE}
    assert owners == {portrait.uids["real"]}


def test_the_hosts_copy_of_the_program_is_untouched_by_its_run(
    probe: Probe, probe_path: Path
) -> None:
    before = probe_path.stat()
    probe.answer("attack", "overwrite_own_program", "change_own_program")
    after = probe_path.stat()
    assert (after.st_mode, after.st_size, after.st_ctime_ns) == (
        before.st_mode,
        before.st_size,
        before.st_ctime_ns,
    )
