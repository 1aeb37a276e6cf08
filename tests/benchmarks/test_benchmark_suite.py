"""The benchmarks measure what they say: in their shortest form, with their controls."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oxgen

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as suite  # noqa: E402
from benchmarks import bpf, goals, ours, peers, report  # noqa: E402
from benchmarks.confined import (  # noqa: E402
    PROMISES,
    NotConfinedError,
    faults_inside,
    faults_outside,
    prove,
)
from benchmarks.measure import Absent, Row, Series, measure  # noqa: E402
from benchmarks.soak import GROWTH_KIB, KEPT, Sample, leaks  # noqa: E402
from benchmarks.targets import TINY_BYTES, Workshop, open_workshop  # noqa: E402
from benchmarks.workers import Worker, WorkerError  # noqa: E402

LIMITS = oxgen.Limits()
SHORTEST = suite.Settings(
    quick=True,
    target_seconds=(("tiny", 0.1),),
    rate_seconds=0.05,
    rate_repeats=1,
    in_flight=(1, 8),
    heap_seconds=0.1,
    heap_mib=(20, 64),
    artifact_seconds=0.1,
    artifact_mib=(0.1, 1.0),
    trace_seconds=0.1,
    soak_launches=50,
    soak_never_launches=20,
)
#: Every way that a report has to name, measured or absent.
EVERY_WAY = {
    peers.FLOOR,
    peers.BASE,
    "asyncio.create_subprocess_exec",
    "Popen(user=, group=)",
    "Popen(preexec_fn=)",
    "bwrap --unshare-all",
    "bwrap --unshare-all --seccomp",
    "unshare + chroot",
    "crun run",
    "firejail",
    "sandlock",
    "nono-py",
    "wasmtime",
    ours.TENANCY,
    ours.NEVER,
    ours.WARM,
    ours.MAP,
    ours.AIO,
}


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    with open_workshop() as made:
        yield made


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return suite.run(SHORTEST, say=lambda line: None)


# --- the whole, in its shortest form --------------------------------------------------------------


@pytest.mark.root
def test_every_way_is_measured_or_named_as_absent(results: dict[str, Any]) -> None:
    section = results["targets"][0]
    named = {row["name"] for row in section["rows"]} | {one["name"] for one in section["absent"]}
    assert named == EVERY_WAY


@pytest.mark.root
def test_what_needs_nothing_installed_is_measured(results: dict[str, Any]) -> None:
    measured = {row["name"] for row in results["targets"][0]["rows"]}
    wanted = {peers.FLOOR, peers.BASE, ours.TENANCY, ours.NEVER, ours.WARM, "Popen(preexec_fn=)"}
    assert measured >= wanted


@pytest.mark.root
def test_an_absent_way_says_why(results: dict[str, Any]) -> None:
    sections = [results["targets"][0], results["throughput"], results["heap"]]
    assert all(one["reason"] for section in sections for one in section["absent"])


@pytest.mark.root
def test_rows_have_figures(results: dict[str, Any]) -> None:
    for row in results["targets"][0]["rows"]:
        assert row["launches"] >= 1 and 0 < row["min_us"] <= row["p50_us"], row
        assert row["to_subprocess"]["median"] > 0, row


@pytest.mark.root
def test_every_row_of_ours_promises_all_nine_and_no_other_does(results: dict[str, Any]) -> None:
    for row in results["targets"][0]["rows"]:
        assert (row["promises"] == list(PROMISES)) == (row["kind"] == "oxgen"), row


@pytest.mark.root
def test_every_way_of_ours_was_proved(results: dict[str, Any]) -> None:
    measured = {
        row["name"]
        for section in (results["targets"][0], results["throughput"])
        for row in section["rows"]
        if row["name"].startswith("oxgen")
    }
    proofs = results["proofs"]
    assert measured | {"run_plugin"} <= set(proofs)
    assert {proof["inside"]["seccomp"] for proof in proofs.values()} == {2}
    seen = {
        name: proof["outside"]["Seccomp"] for name, proof in proofs.items() if name != ours.WARM
    }
    assert set(seen.values()) == {"2"}


@pytest.mark.root
def test_throughput_is_above_zero_at_every_number(results: dict[str, Any]) -> None:
    for row in results["throughput"]["rows"]:
        assert set(row["launches_per_second"]) == {"1", "8"}
        assert all(rate > 0 for rate in row["launches_per_second"].values()), row


@pytest.mark.root
def test_large_process_is_larger(results: dict[str, Any]) -> None:
    about = results["heap"]["processes"]
    assert about["64"]["resident_mib"] - about["20"]["resident_mib"] in range(40, 49)


@pytest.mark.root
def test_goals_are_evaluated(results: dict[str, Any]) -> None:
    by_name = {goal["what"]: goal for goal in results["goals"]}
    assert isinstance(by_name["p50 oxgen.run / subprocess.run"]["reached"], bool)
    assert by_name["after 50 launches"]["reached"] is None  # too few to judge


@pytest.mark.root
def test_results_are_json_and_make_a_report(results: dict[str, Any], tmp_path: Path) -> None:
    names = suite.write(results, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text())["machine"]["kernel"]
    text = (tmp_path / "figures.md").read_text()
    assert all(f"`{name}`" in text for name in (ours.TENANCY, ours.NEVER, peers.BASE))
    assert {"figures.json", "figures.md"} <= set(names)


@pytest.mark.root
def test_soak_finds_no_leak() -> None:
    words = [sys.executable, "-m", "benchmarks.soak", "--launches", "300", "--dirty", "7"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no leak in 300 launches" in done.stdout


# --- peers ----------------------------------------------------------------------------------------


def test_a_peer_that_is_not_installed_is_named(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = workshop.target("tiny")
    workshop.helper("floor")
    monkeypatch.setenv("PATH", str(tmp_path))
    with contextlib.ExitStack() as held:
        rows = peers.Peers(target, workshop, held).rows()
    absent = {one.name: one.reason for one in rows.absent}
    for name, command in (("bwrap --unshare-all", "bwrap"), ("firejail", "firejail")):
        assert absent[name] == f"{command} is not installed"
    assert peers.BASE in {row.name for row in rows.present}


def test_a_peer_that_fails_here_is_named_with_its_words(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: not on this machine' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with contextlib.ExitStack() as held:
        rows = peers.Peers(workshop.target("tiny"), workshop, held).rows()
    reason = "does not work here: bwrap: not on this machine"
    assert Absent("bwrap --unshare-all", reason) in rows.absent


def test_target_is_below_one_kib(workshop: Workshop) -> None:
    target = workshop.target("tiny")
    assert target.size_bytes < TINY_BYTES
    assert subprocess.run([target.path], timeout=10).returncode == 0


def test_filter_ends_in_deny_and_jumps_stay_inside() -> None:
    code = bpf.filter_bytes()
    count = len(code) // 8
    assert len(code) % 8 == 0 and count < 64
    for index in range(count):
        if code[index * 8] == 0x15:  # a comparison
            assert index + 1 + max(code[index * 8 + 2 : index * 8 + 4]) < count


def test_worker_whose_program_fails_is_an_error(workshop: Workshop) -> None:
    with (
        Worker([workshop.helper("floor"), "/bin/false"]) as worker,
        pytest.raises(WorkerError, match="did not exit with 0"),
    ):
        worker.latency(1)


# --- the proof, and that it can fail --------------------------------------------------------------


INSIDE = {
    "seccomp": 2,
    "no_new_privs": 1,
    "uids": [65534, 65534, 65534],
    "groups": 0,
    "effective": 0,
    "permitted": 0,
    "open_files": LIMITS.open_files,
    "interfaces": ["lo"],
}
OUTSIDE = {
    "Seccomp": "2",
    "NoNewPrivs": "1",
    "CapEff": "0000000000000000",
    "NSpid": "4711 2",
    "Uid": "1880096770 1880096770 1880096770 1880096770",
    "shared_namespaces": [],
    "cgroups": ["memory:/oxgen-1-2/cell-3"],
    "memory_bytes": LIMITS.memory_bytes,
    "processes": (LIMITS.processes or 0) + 1,
}


def test_what_is_confined_has_no_faults() -> None:
    assert faults_inside(INSIDE, LIMITS) == [] and faults_outside(OUTSIDE, LIMITS) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seccomp", 0),
        ("no_new_privs", 0),
        ("uids", [0, 0, 0]),
        ("groups", 1),
        ("effective", 1 << 21),
        ("permitted", 1),
        ("open_files", 1024),
        ("interfaces", ["lo", "eth0"]),
    ],
)
def test_a_probe_that_sees_too_much_is_a_fault(name: str, value: object) -> None:
    assert len(faults_inside({**INSIDE, name: value}, LIMITS)) == 1


@pytest.mark.parametrize("name", [name for name in INSIDE if name != "interfaces"])
def test_a_probe_that_says_nothing_is_a_fault(name: str) -> None:
    assert faults_inside({key: INSIDE[key] for key in INSIDE if key != name}, LIMITS) != []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Seccomp", "0"),
        ("NoNewPrivs", "0"),
        ("CapEff", "000001ffffffffff"),
        ("NSpid", "4711"),
        ("Uid", "0 0 0 0"),
        ("shared_namespaces", ["net"]),
        ("cgroups", []),
        ("memory_bytes", None),
        ("processes", 4096),
    ],
)
def test_a_process_that_looks_unconfined_from_outside_is_a_fault(name: str, value: object) -> None:
    assert len(faults_outside({**OUTSIDE, name: value}, LIMITS)) == 1


@pytest.mark.root
@pytest.mark.parametrize("target", ["tiny", "dynamic", "python"])
def test_every_kind_of_cell_can_be_proved(workshop: Workshop, target: str) -> None:
    with oxgen.Launcher(cells=2) as pool:
        proof = prove(workshop.probe(target), pool)
    assert len(proof["outside"]["NSpid"].split()) == 2


@pytest.mark.root
def test_a_row_that_does_not_confine_ends_the_benchmark(workshop: Workshop) -> None:
    """The control: the probe runs unconfined, while everything else of the proof holds."""
    probe = workshop.helper("confined")
    with oxgen.Launcher(cells=2) as pool:
        honest = oxgen.run([probe], launcher=pool, capture_output=True)

        def unconfined(path: str) -> oxgen.Completed:
            seen = subprocess.run([path], capture_output=True, timeout=10).stdout
            return dataclasses.replace(honest, stdout=seen)

        prove(probe, pool)
        with pytest.raises(NotConfinedError, match="seccomp is 0"):
            prove(probe, pool, unconfined)


# --- measuring ------------------------------------------------------------------------------------


def test_ratio_is_taken_round_by_round() -> None:
    series = Series(["slow", "fast"])
    # The machine is ten times slower in the second round; the ratio is the same in both.
    series.rounds = [{"slow": [30.0], "fast": [10.0]}, {"slow": [300.0], "fast": [100.0]}]
    ratio = series.ratio("slow", "fast")
    assert ratio is not None and (ratio.median, ratio.rounds) == (3.0, 2)


def test_ratio_of_rows_without_a_common_round_is_none() -> None:
    series = Series(["slow", "fast"])
    series.rounds = [{"slow": [30.0]}, {"fast": [10.0]}]
    assert series.ratio("slow", "fast") is None


def test_first_launches_of_a_turn_are_not_counted() -> None:
    def turn(count: int) -> list[float]:
        return [9000.0, 9000.0, *[100.0] * (count - 2)]

    row = Row(name="row", kind="floor", turn=turn)
    assert set(measure([row], 0.0).launches("row")) == {100.0}


def test_p99_of_few_launches_is_not_said() -> None:
    row = Row(name="row", kind="floor", turn=lambda count: [1.0] * count)
    series = Series(["row"])
    series.rounds = [{"row": [1.0] * 99}]
    assert series.summary(row, {})["p99_us"] is None
    series.rounds = [{"row": [1.0] * 100}]
    assert series.summary(row, {})["p99_us"] == 1.0


# --- goals and leaks ------------------------------------------------------------------------------


def _ratio_of(median: float) -> dict[str, float]:
    return {"median": median, "low": median, "high": median, "rounds": 1}


@pytest.mark.parametrize(("median", "reached"), [(0.99, True), (1.01, False)])
def test_a_goal_is_reached_or_not(median: float, reached: bool) -> None:
    row = {"name": ours.TENANCY, "to_subprocess": _ratio_of(median)}
    found = goals.evaluate({"targets": [{"target": "tiny", "rows": [row]}]})
    by_name = {goal["what"]: goal for goal in found}
    assert by_name["p50 oxgen.run / subprocess.run"]["reached"] is reached


def test_a_goal_whose_row_is_absent_is_neither() -> None:
    found = goals.evaluate({"targets": []})
    assert {goal["reached"] for goal in found} == {None}
    assert all("not measured" in line for line in report.goal_lines({"goals": found}))


SAMPLE = Sample(**{field.name: 1000 for field in dataclasses.fields(Sample)})


def test_no_growth_is_no_leak() -> None:
    assert leaks(SAMPLE, dataclasses.replace(SAMPLE, host_rss_kib=1000 + GROWTH_KIB)) == []


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Sample) if field.name != "launches"]
)
def test_growth_is_a_leak(name: str) -> None:
    more = 1001 + (GROWTH_KIB if name.endswith("_rss_kib") else KEPT.get(name, 0))
    assert len(leaks(SAMPLE, dataclasses.replace(SAMPLE, **{name: more}))) == 1
