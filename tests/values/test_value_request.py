"""Request: a value that is checked when it is made."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from oxgen import Limits, Request, Sandbox, UsageError


def test_arguments_are_text_and_cannot_be_changed() -> None:
    words = [Path("/bin/true"), "--all"]
    request = Request(words)
    words.append("later")
    assert request.args == ("/bin/true", "--all")
    with pytest.raises(FrozenInstanceError):
        request.args = ()  # type: ignore[misc]


def test_output_is_kept_unless_said_otherwise() -> None:
    assert Request(["true"]).capture_output is True


@pytest.mark.parametrize(
    "args", ["true", b"true", (), [], [1], ["a\0b"], [b"true"], None, ["\ud800"], {"true"}]
)
def test_bad_arguments_are_refused(args: Any) -> None:
    with pytest.raises(UsageError, match="args"):
        Request(args)


@pytest.mark.parametrize(
    "options",
    [
        {"input": "text"},
        {"sandbox": {}},
        {"limits": 5},
        {"tenant": None},
        {"task_id": 7},
        {"capture_output": 1},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_bad_value_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        Request(["true"], **options)


def test_equal_requests_are_equal_and_can_be_sent_to_another_process() -> None:
    request = Request(["true", "x"], sandbox=Sandbox(env={"A": "b"}), limits=Limits(processes=3))
    assert pickle.loads(pickle.dumps(request)) == request
    assert hash(request) == hash(
        Request(["true", "x"], sandbox=request.sandbox, limits=Limits(processes=3))
    )


def test_a_subclass_of_text_is_the_text_that_it_holds() -> None:
    """What runs have in common is found by their arguments: nobody gets another run's."""

    class Odd(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    request = Request(["/bin/true", Odd("a")], tenant=Odd("t"))
    assert [type(word) for word in request.words] == [str, str]
    assert (request.words[1], type(request.tenant), request.tenant) == ("a", str, "t")
