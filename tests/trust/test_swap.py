"""Time of check, time of use: whatever is swapped, what is approved is what was listed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _trust_root import Root

from oxgen.errors import IntegrityError
from oxgen.integrity import approve

GOOD = b"good" * 20_000
EVIL = b"evil" * 20_000
ROUNDS = 300


def by_rename(target: Path, turn: int) -> None:
    fresh = target.with_name("fresh")
    fresh.write_bytes(EVIL if turn % 2 else GOOD)
    fresh.rename(target)


def by_writing(target: Path, turn: int) -> None:
    descriptor = os.open(target, os.O_WRONLY)
    try:
        os.write(descriptor, EVIL if turn % 2 else GOOD)
    finally:
        os.close(descriptor)


def by_link(target: Path, turn: int) -> None:
    fresh = target.with_name("fresh")
    if turn % 2:
        fresh.symlink_to(target.with_name("evil"))
    else:
        fresh.write_bytes(GOOD)
    fresh.rename(target)


def by_folder(target: Path, turn: int) -> None:
    folder = target.parent
    folder.rename(folder.with_name("aside"))
    folder.symlink_to(folder.with_name("other"))
    folder.unlink()
    folder.with_name("aside").rename(folder)


@contextlib.contextmanager
def swapping(swap: Callable[[Path, int], None], target: Path) -> Iterator[threading.Event]:
    """Swap in a thread until the block ends; the event says that it swapped at least once."""
    stop, swapped = threading.Event(), threading.Event()

    def loop() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            swap(target, turn)
            swapped.set()
            time.sleep(0.0005)  # or nobody ever sees the good file

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield swapped
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.parametrize("swap", [by_rename, by_writing, by_link, by_folder])
def test_sealed_bytes_always_have_the_approved_digest(
    trust: Root, swap: Callable[[Path, int], None]
) -> None:
    folder = trust.add(program=GOOD)
    (folder / "evil").write_bytes(EVIL)
    good = hashlib.sha256(GOOD).hexdigest()
    approved_runs = refused = 0
    with swapping(swap, folder / "prog") as swapped:
        assert swapped.wait(30)
        deadline = time.monotonic() + 60
        while approved_runs + refused < ROUNDS or not (approved_runs and refused):
            assert time.monotonic() < deadline, (approved_runs, refused)
            try:
                approved = approve("hello", trust.root)
            except IntegrityError:
                refused += 1
                continue
            with approved:
                held = os.pread(approved.descriptor, approved.size + 1, 0)
                assert (approved.digest, hashlib.sha256(held).hexdigest()) == (good, good)
                approved_runs += 1


def test_checking_and_then_opening_again_would_be_fooled(trust: Root) -> None:
    """The control: with the protection off the same swapping gets through."""
    folder = trust.add(program=GOOD)
    good = hashlib.sha256(GOOD).hexdigest()
    fooled = 0
    with swapping(by_rename, folder / "prog"):
        for _ in range(20_000):
            if hashlib.sha256((folder / "prog").read_bytes()).hexdigest() == good:
                fooled += (folder / "prog").read_bytes() != GOOD
            if fooled:
                break
    assert fooled > 0


def test_file_changed_between_copy_and_use_does_not_matter(trust: Root) -> None:
    folder = trust.add(program=GOOD)
    with approve("hello", trust.root) as approved:
        (folder / "prog").write_bytes(EVIL)
        assert os.pread(approved.descriptor, len(GOOD), 0) == GOOD


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_file_swapped_between_the_look_and_the_opening_is_refused(
    trust: Root, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trust.add(program=GOOD)
    real = os.open
    opened: list[str] = []

    def swapped(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "prog" and not opened:
            opened.append(path)
            (folder / "prog").rename(folder / "moved")
            if kind == "link":
                (folder / "prog").symlink_to("moved")
            else:
                os.mkfifo(folder / "prog")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapped)
    assert trust.refusal("hello") == "not_regular"
    assert opened == ["prog"]
