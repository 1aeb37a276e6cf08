"""``0xgenctl bench``: what it refuses, what it measures, and how it says so."""

from __future__ import annotations

import collections
import io
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_program import SECONDS, program_environment, program_words
from elftools.elf.elffile import ELFFile

import oxgen
from oxgen.cli import chart, measure, static_elf
from oxgen.cli.histogram import bar, buckets_for, duration, histogram_lines
from oxgen.cli.report import Report
from oxgen.limits import Limits

QUICK = ("bench", "--seconds", "0.5", "--concurrency", "1,2")
#: The same, with more time where more processes have to start in it.
SURE = ("bench", "--seconds", "1", "--concurrency", "1,2")


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--seconds", "0.4"],
        ["--seconds", "3601"],
        ["--seconds", "-1"],
        ["--seconds", "nan"],
        ["--seconds", "none"],
        ["--seconds", ""],
        ["--concurrency", "0"],
        ["--concurrency", "1025"],
        ["--concurrency", "1,,2"],
        ["--concurrency", "-1"],
        ["--concurrency", "2.5"],
        ["--concurrency", ""],
        ["--reuse", "always"],
        ["--plot", "chart.pdf"],
        ["--plot", "svg"],
        ["--plot", "-"],
        ["--plot", ""],
        ["--memory-limit", "0"],
        ["--unconfined"],
        ["--runtime", "python"],
        ["--", ""],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_usage_error_is_2_before_anything_is_measured(invoke, words: list[str]) -> None:
    result = invoke("bench", *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert all(line.startswith("0xgenctl: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (["--seconds", "inf"], "accepted: 0.5 to 3600 seconds"),
        (["--concurrency", "x"], "accepted: whole numbers from 1 to 1024 with commas"),
        (["--plot", "chart.gif"], "accepted: a file name that ends with .svg or .png"),
    ],
    ids=["seconds", "concurrency", "plot"],
)
def test_refusal_says_what_is_accepted(invoke, words: list[str], accepted: str) -> None:
    assert accepted in invoke("bench", *words).stderr


def test_help_says_that_cmd_is_never_run_unconfined_unless_asked(invoke) -> None:
    text = " ".join(invoke("bench", "--help").stdout.split())
    assert "never run without confinement, unless --unconfined asks for that" in text
    assert text.count(" 0xgenctl bench") >= 2


# --- what is measured -----------------------------------------------------------------------------


def report_of(result: subprocess.CompletedProcess[str]) -> dict:
    """Return the one object on stdout."""
    (line,) = result.stdout.splitlines()
    return json.loads(line)


@pytest.mark.root
def test_json_has_its_documented_shape(ctl) -> None:
    result = ctl(*SURE, "--concurrency", "2,1,2", "--json", "--memory-limit", "64M")
    report = report_of(result)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(report) == [
        *("schema", "complete", "machine", "command", "seconds", "limits", "confinement"),
        *("latency", "histogram_from_us", "throughput"),
    ]
    assert (report["schema"], report["complete"]) == ("oxgen.bench/1", True)
    assert (report["command"], report["seconds"]) == (None, 1.0)
    assert report["limits"]["memory_bytes"] == 64 << 20
    assert report["machine"]["kernel"] == f"Linux {platform.release()}"
    assert report["machine"]["oxgen"] == oxgen.__version__
    assert set(report["confinement"]) == {"tenancy", "never"}
    for box in report["confinement"].values():
        assert (box["level"], box["limits"], box["missing"]) == ("namespaces", "cgroup", [])
        assert "syscalls" in box["enforced"]
    rows = [(row["name"], row["reuse"]) for row in report["latency"]]
    assert rows == [("subprocess", None), ("oxgen", "tenancy"), ("oxgen", "never")]
    for row in report["latency"]:
        assert 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"] <= row["max_us"]
        assert sum(row["histogram"]) == row["launches"] > 0
        assert len(report["histogram_from_us"]) - len(row["histogram"]) in (0, 1)
        assert (row["ratio"] > 0, row["otherwise"]) == (True, {})
    assert report["latency"][0]["ratio"] == 1
    seen = [(one["reuse"], one["concurrency"]) for one in report["throughput"]]
    assert seen == [("tenancy", 2), ("tenancy", 1), ("never", 2), ("never", 1)]
    assert all(one["launches_per_second"] > 0 for one in report["throughput"])


@pytest.mark.root
def test_documented_members_are_those_of_the_object(ctl) -> None:
    report = report_of(ctl(*SURE, "--json"))
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    chapter = text[text.index("## `bench`") : text.index("## Being stopped")]
    members = [*report, *report["machine"], *report["latency"][0], *report["throughput"][0]]
    assert [name for name in members if f"`{name}`" not in chapter] == []


@pytest.mark.root
def test_command_is_not_run_unconfined_unless_asked(ctl, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    words = ("--json", "--reuse", "tenancy", "--", "/bin/sh", "-c", f": >{trace} 2>/dev/null; :")
    plain = report_of(ctl(*SURE, *words))
    assert [row["name"] for row in plain["latency"]] == ["oxgen"]
    assert plain["latency"][0]["ratio"] is None
    assert not trace.exists()
    asked = report_of(ctl(*SURE, "--unconfined", *words))
    assert [row["name"] for row in asked["latency"]] == ["subprocess", "oxgen"]
    assert asked["latency"][1]["ratio"] > 0
    assert trace.exists()


@pytest.mark.root
def test_command_that_does_not_exit_with_0_is_said_and_counted(ctl) -> None:
    result = ctl(*SURE, "--json", "--reuse", "tenancy", "--", "/bin/sh", "-c", "exit 3")
    (row,) = report_of(result)["latency"]
    assert result.returncode == 0
    assert row["otherwise"] == {"exit status 3": row["launches"]}
    (line,) = result.stderr.splitlines()
    assert line.startswith("0xgenctl: /bin/sh: oxgen, cell reused: ")
    assert "did not exit with 0: exit status 3 (" in line


@pytest.mark.root
def test_command_that_takes_longer_is_ended_by_the_time(ctl, tag: str) -> None:
    began = time.monotonic()
    script = "while :; do :; done"
    result = ctl(*QUICK, "--json", "--", "/bin/sh", "-c", script, tag)
    assert time.monotonic() - began < 5
    assert result.returncode == 1
    assert report_of(result)["complete"] is False
    assert "nothing was measured in 0.5 s; --seconds gives it more time" in result.stderr


@pytest.mark.root
def test_seconds_bound_everything(ctl) -> None:
    began = time.monotonic()
    ctl("bench", "--seconds", "1", "--concurrency", "1,2,4,64")
    assert time.monotonic() - began < 6


@pytest.mark.root
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_report_for_people_fits_80_columns(tmp_path: Path, encoding: str) -> None:
    result = subprocess.run(
        [*program_words(), *SURE],
        cwd=tmp_path,
        env={**program_environment(), "PYTHONIOENCODING": encoding},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
    )
    text = result.stdout.decode(encoding)
    lines = text.splitlines()
    assert (result.returncode, result.stderr) == (0, b"")
    assert max(map(len, lines)) <= 80
    assert ("█" in text, "##" in text) == (encoding == "utf-8", encoding == "ascii")
    assert "namespaces, limits held by cgroup" in text
    for title in ("subprocess.run, unconfined", "oxgen, cell reused", "oxgen, new cell each"):
        (row,) = [line for line in lines if line.startswith(title)]
        assert float(row.split()[-1]) > 0
    assert [line.split()[0] for line in lines if "in flight" in line] == ["1", "2"]


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_seconds", [0.5, 2.5])  # among single launches, among many at once
def test_signal_ends_it_at_once_with_130(
    number: signal.Signals, after_seconds: float, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [*program_words(), "bench", "--seconds", "3.5", "--concurrency", "8", "--reuse", "tenancy"],
        cwd=tmp_path,
        env={**program_environment(), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(after_seconds)
        began = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=SECONDS)
        took = time.monotonic() - began
    assert (process.returncode, stdout, stderr) == (130, "", "0xgenctl: cancelled\n")
    assert took < 2
    assert list(tmp_path.iterdir()) == []


def test_ordinary_user_is_refused_as_run_refuses(tmp_path: Path) -> None:
    # What is needed is loaded first: the tree may lie where only root may read.
    become = (
        "import os, sys, oxgen.process, oxgen._launch.native, elftools.elf.elffile\n"
        "import elftools.common.exceptions, elftools.elf.dynamic, oxgen.broker, oxgen.findings\n"
        "from oxgen.cli import main, measure, report, static_elf\n"
        "if os.geteuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['0xgenctl', *sys.argv[1:]]\n"
        "main()\n"
    )

    def refused(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", become, *words],
            env={**program_environment(), "TMPDIR": "/tmp"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    by_bench, by_run = refused(*QUICK, "--json"), refused("run", "--", "/bin/true")
    assert (by_bench.returncode, by_bench.stdout) == (125, "")
    assert "cannot enforce memory_tree, cpu_tree here" in by_bench.stderr
    assert (by_bench.returncode, by_bench.stderr) == (by_run.returncode, by_run.stderr)


@pytest.mark.root
def test_command_that_is_not_there_is_127(ctl) -> None:
    assert ctl(*QUICK, "--", "/nonexistent/program").returncode == 127


# --- it measures what is confined -----------------------------------------------------------------


@pytest.fixture
def tiny():
    with static_elf.tiny_programs() as programs:
        yield programs


@pytest.mark.parametrize("name", ["exit", "probe"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_program_is_a_static_elf_under_1_kib(name: str, machine: str) -> None:
    content = static_elf.image(name, machine)
    assert len(content) < 1024
    elf = ELFFile(io.BytesIO(content))
    assert elf.get_machine_arch() == {"x86_64": "x64", "aarch64": "AArch64"}[machine]
    load, stack = elf.iter_segments()
    assert (load["p_type"], load["p_filesz"]) == ("PT_LOAD", len(content))
    assert load["p_vaddr"] <= elf["e_entry"] < load["p_vaddr"] + load["p_memsz"]
    assert load["p_vaddr"] % load["p_align"] == load["p_offset"] % load["p_align"]
    assert (stack["p_type"], stack["p_flags"]) == ("PT_GNU_STACK", 6)


def test_machine_without_a_program_is_a_usage_error_with_the_way_out() -> None:
    with pytest.raises(oxgen.UsageError, match="not for riscv64; name a command of your own"):
        static_elf.image("exit", "riscv64")


def test_program_exits_with_0_unconfined(tiny) -> None:
    assert subprocess.run([tiny.exits], timeout=SECONDS).returncode == 0
    assert os.stat(os.path.dirname(tiny.exits)).st_mode & 0o777 == 0o755


def test_probe_finds_itself_unconfined(tiny) -> None:
    # This process may have a filter of its own (a container), but it is not the cell's user.
    status = subprocess.run([tiny.probe], timeout=SECONDS).returncode
    assert status & 0x10
    assert status != static_elf.CONFINED


@pytest.mark.root
def test_programs_run_confined_and_the_probe_finds_it(tiny) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        assert oxgen.run([tiny.exits], launcher=launcher, capture_output=True).returncode == 0
        found = oxgen.run([tiny.probe], launcher=launcher, capture_output=True)
    assert found.termination.exit_code == static_elf.CONFINED


def test_directory_of_the_programs_is_removed() -> None:
    with static_elf.tiny_programs() as programs:
        directory = os.path.dirname(programs.exits)
    assert not os.path.exists(directory)


@pytest.mark.root
def test_pool_that_confines_is_accepted(tiny) -> None:
    with oxgen.Launcher(cells=1) as launcher:
        command = measure.Confined((tiny.exits,), oxgen.Sandbox(), Limits(), launcher)
        box = measure.check_confinement(command, tiny.probe)
    assert box.level == "namespaces"


@pytest.mark.root
def test_probe_that_is_not_confined_is_refused(tiny) -> None:
    # What stands for it is a program that says what the probe says without a filter.
    with oxgen.Launcher(cells=1) as launcher:
        command = measure.Confined((tiny.exits,), oxgen.Sandbox(), Limits(), launcher)
        with pytest.raises(oxgen.UnsupportedError, match="does not confine") as refused:
            measure.check_confinement(command, tiny.exits)
    assert "0x00, wanted 0x5a" in str(refused.value)


@pytest.mark.root
@pytest.mark.parametrize("name", ["filesystem", "network", "syscalls", "neighbours"])
def test_cell_that_lacks_a_property_is_refused(
    tiny, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    whole = measure.Confined.complete

    def without(command: measure.Confined) -> oxgen.Completed:
        done = whole(command)
        enforced = tuple(one for one in done.confinement.enforced if one != name)
        box = dataclasses.replace(done.confinement, enforced=enforced)
        return dataclasses.replace(done, confinement=box)

    monkeypatch.setattr(measure.Confined, "complete", without)
    with oxgen.Launcher(cells=1) as launcher:
        command = measure.Confined((tiny.exits,), oxgen.Sandbox(), Limits(), launcher)
        with pytest.raises(oxgen.UnsupportedError) as refused:
            measure.check_confinement(command, None)
    assert refused.value.missing == (name,)


@pytest.mark.root
def test_unconfined_probe_is_125_at_the_command_line(invoke, monkeypatch) -> None:
    # The whole command, as if what the confined probe answers were the wrong answer.
    monkeypatch.setattr(measure, "CONFINED", 0x10)
    result = invoke(*QUICK)
    assert (result.exit_code, result.stdout) == (125, "")
    assert "nothing was measured, as the pool to be measured does not confine" in result.stderr
    assert "0xgenctl doctor" in result.stderr


# --- figures --------------------------------------------------------------------------------------


def row_of(*turns: list[int]) -> measure.Row:
    return measure.Row("row", lambda: "", turns=list(turns))


def test_ratio_is_taken_round_by_round() -> None:
    # A machine that became ten times slower has not changed the ratio.
    base, ours = row_of([100, 100], [1000, 1000]), row_of([200, 200], [2000, 2000])
    assert ours.ratio_to(base) == 2


def test_round_that_was_cut_short_does_not_count() -> None:
    assert row_of([200], []).ratio_to(row_of([100], [1])) == 2
    assert row_of([]).ratio_to(row_of([1])) is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert measure.percentile(range(1, 101), share) == expected


def test_rows_are_launched_in_turn() -> None:
    order: list[str] = []

    def action(name: str):
        return lambda: order.append(name) or ""

    rows = [measure.Row(name, action(name)) for name in ("a", "b", "c")]
    measure.measure_latency(rows, 0.05)
    assert "".join(order).startswith("a" * 10 + "b" * 10 + "c" * 10)
    counts = collections.Counter(order)
    assert max(counts.values()) - min(counts.values()) <= 10


def test_launches_of_a_row_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_TURNS_MOST", 3)
    row = measure.Row("a", lambda: "")
    measure.measure_latency([row], 60)
    assert len(row.values_us()) == 30


def test_time_bound_ends_what_waits() -> None:
    began = time.monotonic()
    with measure.time_bound(0.1):
        time.sleep(30)
    assert time.monotonic() - began < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_rate_without_a_launch_has_no_figure() -> None:
    assert measure.Rate(1).per_second is None
    assert measure.Rate(1, launches=10, seconds=2.0).per_second == 5


def test_report_of_nothing_is_incomplete_and_valid_json() -> None:
    report = Report((), 0.5, Limits())
    assert (report.complete, report.is_empty) == (False, True)
    assert json.loads(json.dumps(report.as_object()))["complete"] is False


# --- histogram ------------------------------------------------------------------------------------


def test_single_value_is_one_full_bucket() -> None:
    buckets = buckets_for([[100.0]])
    assert buckets.count([100.0]) == [1]
    lines = histogram_lines({"one": [100.0]}, blocks=False)
    assert len(lines) == 2
    assert lines[1].endswith("# 100%")


def test_empty_bucket_is_a_line_without_a_bar() -> None:
    lines = histogram_lines({"two": [100.0] * 50 + [200.0] * 50}, blocks=False)
    assert lines[1].endswith("50%")
    assert lines[-1].endswith("50%")
    assert lines[2:-1]
    assert all("#" not in line and "%" not in line for line in lines[2:-1])


def test_huge_outlier_does_not_stretch_the_scale() -> None:
    values = [100.0 + step / 10 for step in range(1000)]
    buckets = buckets_for([values])
    stretched = buckets_for([[*values, 1e9]])
    assert stretched.is_open
    assert stretched.edges == buckets.edges
    counts = stretched.count([*values, 1e9])
    assert (sum(counts), counts[-1]) == (1001, 1)


@pytest.mark.parametrize(
    "series",
    [
        [[1.0, 1e9]],
        [[1e-9, 1e-9]],
        [[0.0]],
        [[50.0, 60.0], [3000.0] * 7],
        [[2.0**power for power in range(40)]],
        [[128.0] * 5, []],
    ],
)
def test_every_value_is_in_one_of_few_buckets(series: list[list[float]]) -> None:
    buckets = buckets_for(series)
    assert list(buckets.edges) == sorted(set(buckets.edges))
    for values in series:
        counts = buckets.count(values)
        assert sum(counts) == len(values)
        assert len(counts) <= 16


def test_bucket_holds_what_is_from_its_begin_up_to_the_next() -> None:
    buckets = buckets_for([[100.0, 5000.0]])
    for index, edge in enumerate(buckets.edges[:-1]):
        assert buckets.count([edge])[index] == 1
        assert buckets.count([math.nextafter(buckets.edges[index + 1], 0)])[index] == 1


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_lines_are_no_wider_than_asked(width: int, columns: int) -> None:
    values = [100.0] * 99 + [5000.0]
    series = {f"a name that is long {index}" * 3: values for index in range(columns)}
    for blocks in (False, True):
        assert max(map(len, histogram_lines(series, width=width, blocks=blocks))) <= width


def test_same_share_is_drawn_at_the_same_length_in_each_column() -> None:
    few, many = [100.0, 200.0], [100.0, 200.0] * 5000
    _, first, *_ = histogram_lines({"few": few, "many": many}, blocks=False)
    left, right = first.split()[2], first.split()[4]
    assert left == right == "#" * len(left)


def test_nothing_but_nothing_is_invisible() -> None:
    assert bar(0, 10, blocks=True) == bar(0, 10, blocks=False) == ""
    assert (bar(1e-9, 10, blocks=True), bar(1e-9, 10, blocks=False)) == ("▏", ".")
    assert (bar(1, 10, blocks=True), bar(1, 10, blocks=False)) == ("█" * 10, "#" * 10)
    assert bar(0.55, 10, blocks=True) == "█████▌"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.50 us"),
        (99.94, "99.9 us"),
        (999.9, "1.00 ms"),
        (15_000, "15.0 ms"),
        (2e6, "2.00 s"),
    ],
)
def test_duration_has_three_digits_and_a_unit(value: float, text: str) -> None:
    assert duration(value) == text


def test_nothing_measured_has_no_lines() -> None:
    assert histogram_lines({"none": []}, blocks=True) == []


# --- chart ----------------------------------------------------------------------------------------

#: Stands for matplotlib where it is not installed, or is broken: importing it fails.
WITHOUT = (
    "import sys; sys.modules['matplotlib'] = None\n"
    "sys.argv[0] = '0xgenctl'\n"
    "from oxgen.cli import main\nmain()\n"
)


def test_plot_without_matplotlib_is_2_and_says_what_to_install(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, *QUICK, "--plot", "chart.svg"],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "pip install 'oxgen[plot]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_matplotlib_is_not_needed_without_plot(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, *SURE],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
    )
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.root
@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("B.PNG", b"\x89PNG")])
def test_plot_draws_a_chart(ctl, tmp_path: Path, name: str, begin: bytes) -> None:
    (tmp_path / name).write_bytes(b"what was there before" * 100_000)
    result = ctl(*SURE, "--plot", name)
    assert (result.returncode, result.stderr) == (0, "")
    content = (tmp_path / name).read_bytes()
    assert content.startswith(begin)
    assert b"what was there before" not in content


def test_chart_has_a_line_for_each_row_and_takes_names_literally() -> None:
    rows = {"subprocess": [1.0, 2.0], "reused": [3.0] * 5000, "never": []}
    rates = {"reused": {1: 10.0, 8: 20.0}, "never": {8: 5.0}}
    picture = chart.draw(rows, rates, title="$no formula{$ <tag>", format="svg")
    assert picture.count(b"reused") == 2
    assert b"&lt;tag&gt;" in picture
    assert len(picture) < 200_000


@pytest.mark.parametrize("name", ["missing/a.svg", "folder.svg", "pipe.svg"])
def test_plot_that_cannot_be_written_is_said_before_the_measuring(
    ctl, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder.svg").mkdir()
    os.mkfifo(tmp_path / "pipe.svg")
    began = time.monotonic()
    result = ctl("bench", "--seconds", "50", "--plot", name)
    assert time.monotonic() - began < 10
    assert (result.returncode, result.stdout) == (1, "")
    assert name in result.stderr


def test_chart_file_that_was_not_written_is_gone_or_as_before(tmp_path: Path) -> None:
    new, old = tmp_path / "new.svg", tmp_path / "old.svg"
    old.write_text("old")
    with chart.ChartFile(str(new)), chart.ChartFile(str(old)):
        assert new.exists()
    assert not new.exists()
    assert old.read_text() == "old"


def test_chart_that_does_not_fit_the_disk_names_its_file(tmp_path: Path) -> None:
    with chart.ChartFile(str(tmp_path / "a.svg")) as file:
        file._descriptor, real = os.open("/dev/full", os.O_WRONLY), file._descriptor
        os.close(real)
        with pytest.raises(OSError, match=r"a\.svg"):
            file.write(b"x")
