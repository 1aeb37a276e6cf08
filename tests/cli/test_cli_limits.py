"""The values of the limit options: what is accepted, and what a refusal says."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxgen.cli.options import Bound, Count, Processors, Seconds, Size
from oxgen.limits import GIB, KIB, MIB, Limits


def read(kind: Bound, text: str) -> object:
    return kind.convert(text, None, None)[1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.5", 0.5),
        (".5", 0.5),
        ("5", 5.0),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("250ms", 0.25),
        ("none", None),
    ],
)
def test_time_is_read_in_the_documented_units(text: str, seconds: float | None) -> None:
    assert read(Seconds("wall_seconds"), text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("65536", 64 * KIB),
        ("64K", 64 * KIB),
        ("512M", 512 * MIB),
        ("512m", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("1G", GIB),
        ("1.5G", GIB + GIB // 2),
        ("1T", 1024 * GIB),
        ("none", None),
    ],
)
def test_size_is_read_in_powers_of_1024(text: str, size: int | None) -> None:
    assert read(Size("file_bytes"), text) == size


@pytest.mark.parametrize(("text", "number"), [("64", 64), ("none", None)])
def test_number_is_read(text: str, number: int | None) -> None:
    assert read(Count("processes"), text) == number


@pytest.mark.parametrize(
    ("kind", "text", "span"),
    [
        (Size("memory_bytes"), "1K", "4M to 1024T"),
        (Size("disk_bytes"), "5", "64K to 1024T"),
        (Size("file_bytes"), "5000T", "1 to 1024T"),
        (Seconds("wall_seconds"), "0.1ms", "1ms to 876000h"),
        (Seconds("cpu_seconds"), "9999999h", "1ms to 876000h"),
        (Count("open_files"), "4", "5 to 1125899906842624"),
        (Processors("cpus"), "0.009", "0.01 to 1024"),
        (Processors("cpus"), "1025", "0.01 to 1024"),
    ],
)
def test_a_range_is_said_as_it_may_be_written(kind: Bound, text: str, span: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        read(kind, text)
    assert f"{text!r} is refused, as it is not in {span}; accepted: " in refused.value.message
    assert "None" not in refused.value.message and "_" not in refused.value.message
    for end in span.split(" to "):
        read(kind, end)


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), ("0.5", 0.5), (".25", 0.25), ("1.", 1), ("none", None)]
)
def test_processors_are_read(text: str, number: float | None) -> None:
    assert read(Processors("cpus"), text) == number


BAD_EVERYWHERE = [
    "",
    " ",
    "0",
    "-1",
    "nan",
    "NaN",
    "inf",
    "+5",
    "1e3",
    "0x10",
    "1_000",
    "5x",
    "None",
]


@pytest.mark.parametrize("text", [*BAD_EVERYWHERE, "0.0", "0s", "1d", "5 s", "٥", "9" * 15, "1e-9"])
def test_bad_time_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(click.BadParameter, match="accepted: seconds such as"):
        read(Seconds("cpu_seconds"), text)


@pytest.mark.parametrize(
    "text", [*BAD_EVERYWHERE, "0M", "1.5", "512MB", "512Q", "512M M", "٥", "9" * 18, "8192T", "1"]
)
def test_bad_size_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(click.BadParameter, match="accepted: bytes such as"):
        read(Size("memory_bytes"), text)


@pytest.mark.parametrize("text", [*BAD_EVERYWHERE, "1.5", "64M", "9" * 18, "9" * 5000])
def test_bad_number_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(click.BadParameter, match="accepted: a whole number"):
        read(Count("processes"), text)


@pytest.mark.parametrize(
    "option",
    [
        "--cpu-limit",
        "--memory-limit",
        "--wall-limit",
        "--process-limit",
        "--open-files-limit",
        "--file-limit",
        "--disk-limit",
        "--output-limit",
    ],
)
@pytest.mark.parametrize("command", [["run"], ["plugin", "run"]])
def test_zero_is_a_usage_error_for_every_limit_of_every_command(
    invoke, command: list[str], option: str
) -> None:
    result = invoke(*command, option, "0", "nothing")
    assert result.exit_code == 2
    assert option in result.stderr
    assert "accepted:" in result.stderr


@given(st.text(max_size=24))
def test_any_text_gives_an_accepted_limit_or_a_usage_error(text: str) -> None:
    for kind in (Seconds("wall_seconds"), Size("disk_bytes"), Count("open_files")):
        try:
            field, value = kind.convert(text, None, None)
        except click.BadParameter:
            continue
        Limits(**{field: value})


@pytest.mark.parametrize("text", [*BAD_EVERYWHERE, "0.0", "50%", "500m", "1/2", "٥", "9" * 5000])
def test_bad_number_of_processors_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(click.BadParameter, match="accepted: a number of processors such as"):
        read(Processors("cpus"), text)
