"""Build the launch core without Python (``tests/c/launch_*.c``) and run each of its tests.

The same programs run on other kernels by ``tests/vm/run.sh``; here they run on this one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[1] / "c"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("gcc") is None,
        reason="the C tests need gcc on Linux",
    ),
]


#: ``launch_places`` rearranges the machine's cgroups: it runs in virtual machines only.
PROGRAMS = (
    "launch_driver",
    "launch_cells",
    "launch_cgroups",
    "launch_ends",
    "launch_loop",
    "launch_nets",
    "launch_nobody",
)


def promises() -> list[tuple[str, str]]:
    """Return (program, test) for every line ``TEST(name)`` of the programs."""
    return [
        (program, name)
        for program in PROGRAMS
        for name in re.findall(
            r"^ +TEST\((\w+)\),", (SOURCES / f"{program}.c").read_text(encoding="utf-8"), re.M
        )
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("launch")
    subprocess.run([SOURCES / "launch.sh", out], check=True, timeout=300)
    return out


@pytest.mark.parametrize(("program", "promise"), promises())
def test_c_launch(built: Path, program: str, promise: str) -> None:
    done = subprocess.run(
        [built / program, promise], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
