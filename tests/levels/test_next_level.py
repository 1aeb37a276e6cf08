"""Where cells cannot be made at the best level the next one is taken, and advice can be typed."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from control.contained import USER, contained, place_of_dweller

pytestmark = pytest.mark.root

DROP = f"drop({USER}, os.path.dirname(arguments[0]))\n"

#: 0xgenctl as a host of its own, in the same container.
CTL = """
def ctl(*words):
    start = "import sys; sys.argv[0] = '0xgenctl'; from oxgen.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr]

def typed(message):
    # The options that the message names last, as somebody types them.
    import re
    return re.findall(r"--(?:level|enforce-except) [a-z_]+", message.rsplit("; or ", 1)[-1]
                      if "; or " in message else message.rsplit("remedy: ", 1)[-1])
"""

FILTERED = (f"unshare={errno.EPERM}", f"mount={errno.EPERM}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, with the program in it."""
    with place_of_dweller() as directory:
        yield directory


# --- another level --------------------------------------------------------------------------------

CHOOSE = """
with oxgen.Launcher(cells=2) as launcher:
    levels = []
    for words in (["/bin/sh", "-c", "exit 7"], [arguments[0], "look"], ["/bin/sh", "-c", "exit 7"]):
        done = oxgen.run(words, sandbox=box(None), launcher=launcher, capture_output=True)
        levels.append(done.confinement.level)
    held = done.confinement
say([levels, done.returncode, held.missing, held.cause, held.remedy])
"""


def test_under_a_masked_proc_what_needs_one_runs_at_the_next_level(place: Path) -> None:
    levels, code, missing, cause, remedy = contained(CHOOSE, place / "dweller", masked=True)
    # The dweller is static: it needs no /proc, and has namespaces all the same.
    assert (levels, code) == (["chroot", "namespaces", "chroot"], 7)
    assert "disk" in missing
    assert "level 'namespaces' cannot be had here: a private /proc" in cause
    assert "systempaths=unconfined" in remedy


def test_control_where_it_is_not_masked_all_have_namespaces(place: Path) -> None:
    levels, code, missing, cause, _ = contained(CHOOSE, place / "dweller")
    assert (levels, code) == (["namespaces"] * 3, 7)
    assert (missing, cause) == ([], "")


@pytest.mark.parametrize("call", ("clone_new", "open_tree", "setns", "pivot_root"))
def test_a_call_that_a_filter_refuses_to_cells_brings_the_next_level(
    place: Path, call: str
) -> None:
    rule = (f"{call}={errno.EPERM}",)
    levels, code, missing, cause, remedy = contained(CHOOSE, place / "dweller", refused=rule)
    assert (levels, code, missing) == (["chroot"] * 3, 7, ["disk"])
    assert "a system call filter around this process" in cause
    assert "seccomp=FILE" in remedy and "seccomp=unconfined" not in remedy


NAMED = """
try:
    oxgen.run(["/bin/sh", "-c", "exit 7"], sandbox=oxgen.Sandbox(level="namespaces"))
    say("it ran")
except oxgen.UnsupportedError as refused:
    words = 'level="chroot", enforce_except=("disk",)'
    advised = refused.remedy.endswith(f"or use {words}, which can be had here")
    sandbox = eval(f"oxgen.Sandbox({words})")
    done = oxgen.run(["/bin/sh", "-c", "exit 7"], sandbox=sandbox)
    say([advised or refused.remedy, done.returncode])
"""


@pytest.mark.parametrize("kind", ("masked", "clone_new", "setns", "mount"))
def test_a_level_that_was_named_is_not_replaced_but_the_other_one_is_named(
    place: Path, kind: str
) -> None:
    rules = () if kind == "masked" else (f"{kind}={errno.EPERM}",)
    found = contained(NAMED, place / "dweller", refused=rules, masked=kind == "masked")
    assert found == [True, 7]


USERS = """
waived = ("memory_tree", "cpu_tree")
try:
    oxgen.run(["/bin/sh", "-c", "exit 7"], sandbox=oxgen.Sandbox(enforce_except=waived))
    say("it ran")
except oxgen.UnsupportedError as refused:
    import re
    words = re.search(r'use (level="landlock".*), which can be had here', refused.remedy)
    sandbox = eval(f"oxgen.Sandbox({words[1]})")
    done = oxgen.run(["/bin/sh", "-c", "exit 7"], sandbox=sandbox)
    say([done.confinement.level, done.returncode])
"""


@pytest.mark.parametrize("rules", ((), FILTERED))
def test_an_ordinary_user_is_told_of_landlock_where_nothing_else_is_left(
    place: Path, rules: tuple[str, ...]
) -> None:
    found = contained(DROP + USERS, place / "dweller", refused=rules, masked=not rules)
    assert found == ["landlock", 7]


def test_advice_leaves_nothing_in_the_home_of_the_user(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    prepare = f"""
def prepare(run):
    os.chown(arguments[1], {USER}, {USER})
    os.environ["XDG_RUNTIME_DIR"], os.environ["HOME"] = "", arguments[1]
"""
    drop = DROP.replace("))\n", "), prepare)\n")
    text = """
try:
    oxgen.run(["/bin/sh", "-c", "exit 7"], sandbox=box("namespaces"))
except oxgen.UnsupportedError as refused:
    say(["landlock" in refused.remedy, os.listdir(arguments[1])])
"""
    found = contained(prepare + drop + text, place / "dweller", home, masked=True)
    assert found == [True, []]


# --- what is advised can be typed -----------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    (
        ["run"],
        ["run", "--level", "chroot"],
        ["run", "--level", "namespaces"],
        ["run", "--level", "landlock"],
    ),
)
def test_the_options_that_the_message_names_last_are_those_that_help(
    place: Path, words: list[str]
) -> None:
    text = f"""
command = ["--", arguments[0], "look"]
code, _, message = ctl(*{words!r}, *command)
options = " ".join(typed(message)).split()
say([code, options, message, *ctl("run", *options, *command)[::2]])
"""
    code, options, message, again, said = contained(CTL + text, place / "dweller", refused=FILTERED)
    assert code == 125, message
    assert options[-2:] == ["--enforce-except", "disk"], message
    assert (again, said) == (0, "")
    assert "--level namespaces" not in message and "landlock'" not in message.split("remedy")[1]


@pytest.mark.parametrize(
    "option", (["--ro-bind", "/etc:/data"], ["--network", "host"], ["--exec-tmp"], ["--explain"])
)
def test_what_only_namespaces_can_do_names_why_they_cannot_be_had(
    place: Path, option: list[str]
) -> None:
    text = f"""say(ctl("run", *{option!r}, "--", arguments[0], "look"))"""
    code, _, message = contained(CTL + text, place / "dweller", refused=FILTERED)
    assert code == 125
    assert "level 'namespaces' cannot be had here: a system call filter" in message
    assert "--level namespaces" not in message


def test_bench_takes_the_option_that_it_advises(place: Path) -> None:
    text = """
code, _, message = ctl("bench", "--seconds", "1", "--concurrency", "1")
options = " ".join(typed(message)).split()
say([code, options, *ctl("bench", "--seconds", "1", "--concurrency", "1", *options)])
"""
    code, options, again, report, message = contained(
        CTL + text, place / "dweller", refused=FILTERED
    )
    assert (code, options) == (125, ["--enforce-except", "disk"])
    assert again in (0, 1) and "oxgen" in report, message  # 1: not everything in the time


def test_a_row_of_doctor_names_no_level_that_cannot_be_had(place: Path) -> None:
    text = 'say(ctl("doctor", "--json"))'
    code, report, _ = contained(CTL + text, place / "dweller", refused=FILTERED)
    rows = {check["name"]: check for check in json.loads(report)["checks"]}
    assert code == 1
    assert "cannot be had" in rows["level namespaces"]["detail"]
    for row in rows.values():
        assert (
            "--level namespaces" not in row["remedy"] and "level 'namespaces'," not in row["remedy"]
        )
    assert "--level chroot --enforce-except disk" in rows["level chroot"]["remedy"]
    assert rows["outer filter"]["remedy"].endswith("--level chroot")


def test_doctor_shows_an_ordinary_user_what_is_weaker(place: Path) -> None:
    # Loaded first: the tree may lie where only root may read.
    loaded = """
import oxgen.cli.doctor, oxgen.cli.trust, oxgen.integrity, oxgen.machine, oxgen.process
from click.testing import CliRunner
from oxgen.cli import command_line
"""
    text = 'done = CliRunner().invoke(command_line, ["doctor", "--json"])\n'
    text += "say([done.exit_code, done.stdout])\n"
    code, report = contained(loaded + DROP + text, place / "dweller")
    found = json.loads(report)
    rows = {check["name"]: check for check in found["checks"]}
    assert code == 1
    for level in ("namespaces", "landlock"):
        assert found["levels"][level]["weaker"] == ["uid", "devices"]
        assert "weaker: uid, devices" in rows[f"level {level}"]["detail"]


# --- limits that were not asked for, and what is said of the rest ---------------------------------


def test_a_disk_limit_of_none_is_not_asked_for(place: Path) -> None:
    text = """
found = []
for limits in (oxgen.Limits(disk_bytes=None), oxgen.Limits()):
    try:
        done = oxgen.run([arguments[0], "look"], limits=limits, capture_output=True,
                         sandbox=oxgen.Sandbox(level="chroot"))
        found.append(list(done.confinement.missing))
    except oxgen.UnsupportedError as refused:
        found.append(list(refused.missing))
say(found)
"""
    assert contained(text, place / "dweller") == [[], ["disk"]]


LANDLOCK = """
try:
    done = oxgen.run([arguments[0], "look"], sandbox=box("landlock"), capture_output=True)
    say([done.confinement.weaker, done.confinement.cause])
except oxgen.UnsupportedError as refused:
    say([refused.cause, refused.remedy])
"""


#: What is done to the directory before rights are dropped, and what is then said of it.
PLACES = {
    "closed": ("os.chown(run, 0, 0)", "Permission denied"),
    "missing": ("os.environ.update(XDG_RUNTIME_DIR='', HOME='/nonexistent')", "No such file"),
    "noexec": (
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', f'noexec,mode=700,uid={uid}', 't', run],"
        " check=True)",
        "it is mounted noexec",
    ),
    "shared": ("os.chmod(run, 0o777)", "it is not the caller's own, or others may write there"),
}


@pytest.mark.parametrize("kind", PLACES)
def test_why_a_directory_will_not_do_is_said_as_it_is(place: Path, kind: str) -> None:
    done, said = PLACES[kind]
    prepare = f"uid = {USER}\ndef prepare(run):\n    {done}\n"
    drop = DROP.replace("))\n", "), prepare)\n")
    rights = ["chown", "setgid", "setuid", "sys_admin", "fowner", "dac_override"]
    cause, remedy = contained(prepare + drop + LANDLOCK, place / "dweller", capabilities=rights)
    assert said in cause
    assert ("noexec" in cause) == (kind == "noexec")
    assert "XDG_RUNTIME_DIR" in remedy


def test_each_property_that_landlock_lacks_has_its_own_reason(place: Path) -> None:
    weaker, cause = contained(DROP + LANDLOCK, place / "dweller")
    assert weaker == ["uid", "devices"]  # there are no groups to keep
    assert "disk: without mounts of its own" in cause
    assert "memory_tree, cpu_tree, processes: " in cause


BOUNDS = """
box = oxgen.Sandbox(enforce_except=("memory_tree", "cpu_tree"))
def ended(source, **limits):
    done = oxgen.run(["/usr/bin/python3", "-c", source], sandbox=box, capture_output=True,
                     limits=oxgen.Limits(**limits))
    end = done.termination
    return [end.reason, end.exit_code, end.certain, end.detail, done.usage.cpu_seconds]
"""


def test_want_of_memory_leaves_a_trace_where_each_process_is_bounded(place: Path) -> None:
    text = """
grow = "kept = []\\nwhile True: kept.append(bytearray(1 << 20))"
say([ended(grow, memory_bytes=64 << 20), ended("bytearray(100 << 20)", memory_bytes=64 << 20),
     ended("raise SystemExit(3)", memory_bytes=None), ended("bytearray(1 << 20)")])
"""
    grown, at_once, unbounded, fine = contained(DROP + BOUNDS + text, place / "dweller")
    assert grown[:3] == ["memory_limit", 1, False]
    assert at_once[:3] == [None, 1, True]
    assert "RLIMIT_DATA" in grown[3] and "RLIMIT_DATA" in at_once[3]
    assert unbounded[:4] == [None, 3, True, ""]
    assert fine[:4] == [None, 0, True, ""]


def test_processor_time_of_a_process_ends_at_the_limit(place: Path) -> None:
    text = """
import resource
show = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU))"
done = oxgen.run(["/usr/bin/python3", "-c", show], sandbox=box, capture_output=True)
say([ended("while True: pass", cpu_seconds=1), done.stdout.decode()])
"""
    ended, shown = contained(DROP + BOUNDS + text, place / "dweller")
    assert ended[0] == "cpu_limit"
    assert "one process" in ended[3] and "all processes" not in ended[3]
    assert 0.7 < ended[4] < 1.6
    assert shown == "(60, 61)\n"
