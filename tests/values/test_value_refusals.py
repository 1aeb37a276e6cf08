"""What a failed stage means to a person."""

from __future__ import annotations

import errno

import pytest

from oxgen import LaunchError, LostError, UnsupportedError
from oxgen._launch import refusals


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT])
def test_a_launcher_that_somebody_ended_or_stopped_is_lost(number: int) -> None:
    failure = refusals.of_launcher("handshake", number, "it ended", "", "/x/_launcher")
    assert isinstance(failure, LostError) and failure.remedy == "try again"


def test_a_launcher_of_another_build_is_not_lost() -> None:
    """The twin: trying again would not help."""
    failure = refusals.of_launcher(
        "handshake", errno.EPROTO, "it did not answer", "install anew", "/x"
    )
    assert isinstance(failure, LaunchError) and not isinstance(failure, LostError)
    assert failure.remedy == "install anew"
    assert isinstance(refusals.of_launcher("store", errno.EPERM, "no", "", "/x"), UnsupportedError)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EMSGSIZE])
def test_descriptors_that_are_used_up_are_named(number: int) -> None:
    """A message whose descriptors did not fit arrives cut off."""
    text = str(refusals.of_cell("launcher", number))
    assert "descriptors are used up" in text and "raise the limit on open files" in text


def test_a_launcher_that_does_not_answer_is_named() -> None:
    assert "stopped" in str(refusals.of_cell("launcher", errno.ETIMEDOUT))
    assert "ended" in str(refusals.of_cell("launcher", errno.EPIPE))
