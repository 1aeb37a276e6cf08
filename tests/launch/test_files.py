"""Files go into /workspace before a run and come back after it, and nothing else does."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from control import programs, watch

import oxgen
from oxgen import MIB, Completed, Launcher, LaunchError, Limits, Request, aio

pytestmark = pytest.mark.root

SECRET = "/etc/hostname"


@pytest.fixture(scope="module")
def workshop() -> str:
    """A program that leaves files of every kind."""
    return str(programs.build_c("workshop", sources=(Path(__file__).with_name("workshop.c"),)))


def work(workshop: str, *steps: str, **settings: object) -> Completed:
    done = oxgen.run([workshop, *steps], capture_output=True, **settings)  # type: ignore[arg-type]
    assert done.termination.reason is None and done.returncode == 0, done
    return done


def answers(done: Completed) -> list[str]:
    assert done.stdout is not None
    return done.stdout.decode().splitlines()


# --- in -------------------------------------------------------------------------------------------


def test_bytes_are_there_and_belong_to_the_plugin(workshop: str) -> None:
    done = work(workshop, "show:in.txt", files={"in.txt": b"hello"})
    assert answers(done) == ["hello 644 65534 65534", "0"]


def test_without_files_nothing_is_there(workshop: str) -> None:
    assert answers(work(workshop, "show:in.txt")) == [str(errno.ENOENT)]


def test_files_of_the_host_are_copied_with_their_execute_bits(
    workshop: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("from the host")
    source.chmod(0o700)
    done = work(workshop, "show:in/deep/file", files={"in/deep/file": source})
    assert answers(done) == ["from the host 744 65534 65534", "0"]


def test_the_plugin_may_change_what_it_was_given_and_the_source_stays(
    workshop: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_text("original")
    done = work(workshop, "write:file:changed", files={"file": source}, collect=["file"])
    assert done.collected["file"].content == b"changed"
    assert source.read_text() == "original"


def test_names_of_any_bytes_are_kept(workshop: str) -> None:
    name = "a\nb \udcff\x1b[2J"
    done = work(workshop, files={name: b"odd"}, collect=[name])
    assert done.collected[name].content == b"odd"


def test_ten_thousand_files_go_in_and_come_back(workshop: str) -> None:
    files = {f"d{number % 10}/{number}": b"%d" % number for number in range(10_000)}
    done = work(workshop, files=files, collect=list(files), limits=Limits())
    assert {name: found.content for name, found in done.collected.items()} == files


def test_files_beyond_the_disk_limit_stop_the_launch(workshop: str) -> None:
    limits = Limits(disk_bytes=MIB)
    with pytest.raises(LaunchError) as refused:
        work(workshop, files={"big": bytes(2 * MIB)}, limits=limits)
    assert (refused.value.stage, refused.value.errno) == ("files", errno.ENOSPC)
    assert "disk_bytes" in refused.value.remedy
    work(workshop, files={"big": bytes(MIB // 2)}, limits=limits)


def test_files_that_use_up_the_inodes_stop_the_launch_and_are_named(workshop: str) -> None:
    files = {f"file{number}": b"" for number in range(2000)}
    with pytest.raises(LaunchError) as refused:
        work(workshop, files=files, limits=Limits(disk_bytes=MIB))
    assert (refused.value.stage, refused.value.errno) == ("files", errno.ENOSPC)
    assert str(refused.value.filename).startswith("file")
    work(workshop, files=files)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "device"])
def test_only_regular_files_of_the_host_are_copied_and_nothing_waits(
    workshop: str, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / kind
    if kind == "directory":
        source.mkdir()
    elif kind == "pipe":
        os.mkfifo(source)
    elif kind == "device":
        source = Path("/dev/zero")
    began = time.monotonic()
    with pytest.raises(LaunchError) as refused:
        work(workshop, files={"file": source})
    assert time.monotonic() - began < 2
    assert refused.value.stage == "files" and refused.value.filename == str(source)


def test_a_file_that_changes_while_it_is_copied_is_refused_or_read_whole(
    workshop: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a" * MIB)
    stop = threading.Event()

    def change() -> None:
        letter = b"b"
        while not stop.is_set():
            source.write_bytes(letter * MIB)
            letter = b"a" if letter == b"b" else b"b"

    thread = threading.Thread(target=change)
    thread.start()
    whole = refusals = 0
    try:
        deadline = time.monotonic() + 20
        while refusals == 0 and time.monotonic() < deadline:
            try:
                done = work(workshop, files={"file": source}, collect=["file"])
            except LaunchError as refused:
                assert (refused.stage, refused.errno) == ("files", errno.EBUSY)
                refusals += 1
                continue
            content = done.collected["file"].content
            assert content in (b"", b"a" * MIB, b"b" * MIB)
            whole += 1
    finally:
        stop.set()
        thread.join()
    assert refusals > 0
    work(workshop, files={"file": source})


def test_a_file_whose_size_says_nothing_is_refused(workshop: str) -> None:
    with pytest.raises(LaunchError, match="not as long as it says"):
        work(workshop, files={"file": Path("/proc/self/status")})


def test_the_wall_limit_counts_from_before_the_files(workshop: str) -> None:
    done = oxgen.run(
        [workshop, "sleep:30"], files={"a": bytes(MIB)}, limits=Limits(wall_seconds=0.3)
    )
    assert done.termination.reason == "timeout"
    assert done.usage.wall_seconds < 1.3


# --- out ------------------------------------------------------------------------------------------


def test_what_was_written_comes_back(workshop: str) -> None:
    done = work(
        workshop, "mkdir:d", "write:d/out:result", "write:empty:", collect=["d/out", "empty"]
    )
    assert {name: found.content for name, found in done.collected.items()} == {
        "d/out": b"result",
        "empty": b"",
    }


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("missing", ()),
        ("directory", ("mkdir:out",)),
        ("pipe", ("pipe:out",)),
        ("socket", ("socket:out",)),
        ("link", ("write:real:text", "symlink:out:real")),
        ("link", (f"symlink:out:{SECRET}",)),
        ("link", ("symlink:out:/proc/self/environ",)),
        ("unreadable", ("write:out:text", "mode:out:0")),
    ],
)
def test_what_is_no_readable_file_is_reported_and_not_read(
    workshop: str, kind: str, steps: tuple[str, ...]
) -> None:
    done = work(workshop, *steps, "write:other:text", collect=["out", "other"])
    assert set(answers(done)) == {"0"}
    found = done.collected["out"]
    assert (found.content, found.skipped) == (None, kind)
    assert done.collected["other"].content == b"text"


@pytest.mark.parametrize("target", ["/etc", "real", "..", "/home/plugin"])
def test_no_directory_on_the_way_may_be_a_link(workshop: str, target: str) -> None:
    done = work(
        workshop, "mkdir:real", "write:real/hostname:text", f"symlink:way:{target}",
        collect=["way/hostname", "real/hostname"],
    )  # fmt: skip
    assert done.collected["way/hostname"].skipped == "link"
    assert done.collected["real/hostname"].content == b"text"


def test_a_directory_that_may_not_be_entered_is_reported(workshop: str) -> None:
    done = work(workshop, "mkdir:d", "write:d/out:text", "mode:d:0", collect=["d/out"])
    assert done.collected["d/out"].skipped == "unreadable"


def test_a_device_cannot_be_left(workshop: str) -> None:
    done = work(workshop, "device:out", collect=["out"])
    assert answers(done) == [str(errno.EPERM)]
    assert done.collected["out"].skipped == "missing"


@pytest.mark.parametrize("target", [SECRET, "/bin/workshop", "/home/plugin/file", "/tmp/file"])
def test_a_hard_link_reaches_only_files_of_the_workspace(workshop: str, target: str) -> None:
    steps = [f"write:{target}:text"] if target.endswith("/file") else []
    done = work(workshop, *steps, f"link:out:{target}", collect=["out"])
    assert answers(done)[-1] != "0"
    assert done.collected["out"].skipped == "missing"


def test_a_hard_link_of_the_workspace_is_a_file_like_any_other(workshop: str) -> None:
    done = work(workshop, "write:real:text", "link:out:real", collect=["out"])
    assert done.collected["out"].content == b"text"


def test_a_sparse_file_of_a_tebibyte_is_cut(workshop: str) -> None:
    limits = Limits(file_bytes=None, disk_bytes=4 * MIB)
    began = time.monotonic()
    done = work(workshop, f"sparse:out:{1 << 40}", collect=["out"], limits=limits)
    found = done.collected["out"]
    assert answers(done) == ["0"]
    assert (len(found.content or b""), found.size_bytes) == (4 * MIB, 1 << 40)
    assert found.truncated and time.monotonic() - began < 10


def test_all_files_together_are_read_up_to_the_disk_limit(workshop: str) -> None:
    limits = Limits(file_bytes=3 * MIB, disk_bytes=4 * MIB)
    steps = [f"sparse:{name}:{3 * MIB}" for name in "abc"]
    done = work(workshop, *steps, collect=list("abc"), limits=limits)
    sizes = [len(done.collected[name].content or b"") for name in "abc"]
    assert sizes == [3 * MIB, MIB, 0]
    assert [done.collected[name].truncated for name in "abc"] == [False, True, True]


def test_a_file_of_the_limit_is_whole(workshop: str) -> None:
    limits = Limits(file_bytes=MIB)
    done = work(workshop, f"sparse:out:{MIB}", collect=["out"], limits=limits)
    assert done.collected["out"].content == bytes(MIB) and not done.collected["out"].truncated


def test_ten_thousand_files_in_the_workspace_hold_nothing_up(workshop: str) -> None:
    done = work(workshop, "many:10000", collect=["many9999", "many10000"])
    assert done.collected["many9999"].content == b"x"
    assert done.collected["many10000"].skipped == "missing"


@pytest.mark.parametrize("attempt", range(5))
def test_a_name_that_is_swapped_to_the_last_moment_is_a_link_or_the_plugins_file(
    workshop: str, attempt: int
) -> None:
    done = work(
        workshop, f"swap:out:{SECRET}", "sleep:0", "write:before:x", collect=["out", "next"]
    )
    for found in done.collected.values():
        assert found.skipped in ("link", "missing") or found.content in (b"mine", b"")


def test_collecting_waits_until_every_process_has_gone(workshop: str, tag: str) -> None:
    """The one that was left behind would go on swapping: it is dead before anything is opened."""
    done = work(workshop, f"swap:out:{SECRET}", f"write:mark:{tag}", collect=["mark"])
    assert done.collected["mark"].content == tag.encode()


def test_a_killed_run_leaves_its_files(workshop: str) -> None:
    done = oxgen.run(
        [workshop, "write:out:text", "sleep:30"], collect=["out"], limits=Limits(wall_seconds=0.5)
    )
    assert done.termination.reason == "timeout"
    assert done.collected["out"].content == b"text"


def test_files_of_a_cell_that_had_to_be_killed_are_lost(workshop: str, tag: str) -> None:
    """A stopped warden cannot kill: the host kills the cell, and its files go with it."""
    limits = Limits(wall_seconds=1)
    words = [workshop, "write:out:text", "sleep:30", tag]
    with oxgen.spawn(words, collect=["out"], limits=limits) as process:
        assert process.stdout.readline() == b"0\n"
        (pid,) = watch.plugins(tag)
        os.kill(int(watch.status_of(pid)["PPid"]), signal.SIGSTOP)
        done = process.wait(10)
    assert done.termination.reason == "timeout"
    assert done.collected["out"].skipped == "lost"


@pytest.mark.parametrize("mebibytes", [1, 5])
def test_files_are_memory_of_the_cell_and_fit_below_its_limit(
    workshop: str, mebibytes: int
) -> None:
    limits = Limits(memory_bytes=8 * MIB)
    content = os.urandom(mebibytes * MIB)
    done = work(workshop, files={"in": content}, collect=["in"], limits=limits)
    assert done.collected["in"].content == content
    assert (done.usage.peak_memory_bytes or len(content)) >= len(content)


# --- cells ----------------------------------------------------------------------------------------


def test_the_next_run_finds_nothing_of_the_files(workshop: str) -> None:
    with Launcher(cells=1) as launcher:
        for _ in range(3):
            work(workshop, "show:in", files={"in": b"x"}, collect=["in"], launcher=launcher)
            empty = work(workshop, "show:in", collect=["in"], launcher=launcher)
            assert answers(empty) == [str(errno.ENOENT)]


def test_a_launch_that_failed_for_its_files_leaves_nothing_to_the_next(workshop: str) -> None:
    files = {f"file{number}": b"" for number in range(2000)}
    limits = Limits(disk_bytes=MIB)
    with Launcher(cells=1) as launcher:
        with pytest.raises(LaunchError):
            work(workshop, files=files, limits=limits, launcher=launcher)
        done = work(workshop, "show:file0", launcher=launcher, limits=limits)
        assert answers(done) == [str(errno.ENOENT)]


def test_a_cell_from_which_nothing_was_collected_in_vain_serves_again(workshop: str) -> None:
    with Launcher(cells=1) as launcher:
        for _ in range(3):
            work(workshop, collect=["nothing"], launcher=launcher)
        cells = [*launcher.pool.stock.all]
        assert [cell.native.runs for cell in cells] == [3]


def test_no_descriptor_is_left(workshop: str) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Launcher(cells=1) as launcher:
        work(workshop, launcher=launcher)
        before = descriptors()
        for _ in range(3):
            work(
                workshop, "write:out:x", files={"in": b"x"}, collect=["out", "in", "no"],
                launcher=launcher,
            )  # fmt: skip
            work(workshop, launcher=launcher)
        deadline = time.monotonic() + 5
        while descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert descriptors() <= before


# --- every way to run -----------------------------------------------------------------------------


def test_spawn_has_files(workshop: str) -> None:
    steps = ["show:in", "write:out:text"]
    with oxgen.spawn([workshop, *steps], files={"in": b"x"}, collect=["out"]) as process:
        assert process.stdout.read().startswith(b"x 644")
        assert process.wait().collected["out"].content == b"text"


def test_map_has_files(workshop: str) -> None:
    requests = [
        Request([workshop, "show:in"], files={"in": b"%d" % number}, collect=["in"])
        for number in range(20)
    ]
    found = {done.collected["in"].content for done in oxgen.map(requests)}  # type: ignore[union-attr]
    assert found == {b"%d" % number for number in range(20)}


def test_aio_has_files(workshop: str) -> None:
    async def both() -> Iterator[Completed]:
        words = [workshop, "show:in"]
        one = await aio.run(words, files={"in": b"one"}, collect=["in"])
        async with await aio.spawn(words, files={"in": b"two"}, collect=["in"]) as process:
            two = await process.wait()
        return iter((one, two))

    contents = [done.collected["in"].content for done in asyncio.run(both())]
    assert contents == [b"one", b"two"]


def test_map_reports_a_file_that_cannot_be_put_in(workshop: str) -> None:
    good = Request([workshop], files={"in": b"x"})
    bad = Request([workshop], files={"in": Path("/nowhere/at/all")})
    results = [*oxgen.map([bad, good])]
    assert sorted(type(result).__name__ for result in results) == ["Completed", "LaunchError"]
