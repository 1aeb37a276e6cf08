"""Hosts of their own: Python programs that use oxgen and are killed, forked or interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import oxgen

__all__ = ["Host"]

PREAMBLE = """
import json, os, signal, sys, threading, time
sys.path.insert(0, sys.argv.pop(1))
import oxgen
from control import watch

def say(value):
    print(json.dumps(value), flush=True)

"""


class Host:
    """One Python process with ``oxgen`` and ``watch`` imported and ``say(value)`` to report.

    Its words are ``sys.argv[1:]``. It is a session of its own, so that what it starts can be ended.
    """

    def __init__(
        self,
        text: str,
        *words: object,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        prefix: Sequence[str] = (),
    ) -> None:
        source = Path(oxgen.__file__).resolve().parent.parent
        tests = Path(__file__).resolve().parent.parent
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", PREAMBLE + text, str(tests), *map(str, words)],
            env={**(os.environ if env is None else env), "PYTHONPATH": str(source)},
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def hear(self) -> Any:
        """Return the next value that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, err = self.process.communicate(timeout=10)
            raise AssertionError(f"the host ended with {self.process.returncode}:\n{err.decode()}")
        return json.loads(line)

    def end(self, seconds: float = 60.0) -> list[Any]:
        """Wait until it has ended well; return what else it said."""
        out, err = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, f"{self.process.returncode}:\n{err.decode()}"
        return [json.loads(line) for line in (out or b"").splitlines()]

    def kill(self) -> None:
        """Kill it as the out-of-memory killer would, and reap it."""
        self.process.kill()
        self.process.wait(timeout=10)

    def close(self) -> None:
        """End what is left of its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
