"""Workers: programs that launch by themselves and take orders, so that they have turns, too.

As a program (``python -m benchmarks.workers CMD...``) it is such a worker: it answers the order
``latency N`` by running the command N times. It is used where the command needs a mount namespace
that the benchmark itself must not have.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from oxgen.closing import Closes

__all__ = ["Worker", "WorkerError"]

_ANSWER_SECONDS = 120.0


class WorkerError(Exception):
    """The worker said why it cannot launch, or it is gone."""


class Worker(Closes):
    """A program that takes the orders of benchmarks/c/orders.h on its stdin."""

    def __init__(self, args: Sequence[str], *, cwd: Path | None = None) -> None:
        self._name = os.path.basename(args[0])
        self._process = subprocess.Popen(
            args,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, order: str, seconds: float = _ANSWER_SECONDS) -> str:
        """Send an order and return its answer, one line."""
        pipes = self._process
        assert pipes.stdin is not None and pipes.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # if it has ended, it says why on stdout
            pipes.stdin.write(order.encode() + b"\n")
            pipes.stdin.flush()
        answer = b""
        deadline = time.monotonic() + seconds
        while not answer.endswith(b"\n"):
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise WorkerError(f"{self._name}: no answer to {order!r} within {seconds:g} s")
            block = os.read(pipes.stdout.fileno(), 1 << 16)
            if not block:
                break
            answer += block
        text = answer.decode("utf-8", "replace").strip()
        if text.startswith("error: ") or not answer.endswith(b"\n"):
            raise WorkerError(f"{self._name}: {text.removeprefix('error: ') or self._last_words()}")
        return text

    def _last_words(self) -> str:
        """What it wrote to stderr; it has closed its stdout, so it is about to be gone."""
        try:
            _, words = self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            return "it closed its stdout"
        text = words.decode("utf-8", "replace").strip()
        return text.splitlines()[-1] if text else f"ended with {self._process.returncode}"

    def latency(self, count: int) -> list[float]:
        """Have it launch ``count`` times; the microseconds of each."""
        return [int(word) / 1000 for word in self.ask(f"latency {count}").split()]

    def throughput(self, in_flight: int, seconds: float) -> tuple[int, float]:
        """Have it keep so many in flight; returns how many ended, and in how many seconds."""
        answer = self.ask(f"throughput {in_flight} {round(seconds * 1000)}", seconds + 60)
        count, nanoseconds = answer.split()
        return int(count), int(nanoseconds) / 1e9

    def close(self) -> None:
        """End it: its stdin closes, and if that does not help it is killed."""
        self._selector.close()
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait(timeout=15)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def main(command: Sequence[str]) -> int:
    """Serve ``latency N`` with ``subprocess.run`` of the command."""
    for line in sys.stdin:
        word, _, number = line.partition(" ")
        if word != "latency":
            print("error: an order that is none", flush=True)
            return 1
        taken = []
        for _ in range(int(number)):
            begun = time.perf_counter_ns()
            done = subprocess.run(command, capture_output=True)
            taken.append(time.perf_counter_ns() - begun)
            if done.returncode != 0:
                text = done.stderr.decode("utf-8", "replace").strip().splitlines()
                reason = text[-1] if text else f"exit status {done.returncode}"
                print(f"error: {reason}", flush=True)
                return 1
        print(*taken, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
