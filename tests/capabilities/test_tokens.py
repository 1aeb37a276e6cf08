"""Tokens: what is refused, by which reason, and the twin that is accepted."""

from __future__ import annotations

import base64
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxgen.capabilities import (
    AuditLog,
    Capability,
    Issuer,
    Token,
    boottime_ns,
    parse_capabilities,
)
from oxgen.errors import CapabilityError, UsageError

EMIT = Capability.CAP_EMIT_FINDINGS
PASSIVE = Capability.CAP_HTTP_PASSIVE


class Clock:
    """A clock that the test sets, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


def grant(issuer: Issuer, *, plugin: str = "scan", run_id: str = "run-1") -> str:
    return issuer.grant(plugin=plugin, run_id=run_id, capabilities=[EMIT])


def reason(
    issuer: Issuer, token: str, *, plugin: str = "scan", run_id: str = "run-1"
) -> str | None:
    try:
        issuer.verify(token, plugin=plugin, run_id=run_id)
    except CapabilityError as exc:
        return exc.reason
    return None


def test_fresh_token_says_what_was_granted() -> None:
    issuer = Issuer()
    token = issuer.grant(plugin="scan", run_id="run-1", capabilities=[PASSIVE, EMIT, EMIT])
    opened = issuer.verify(token, plugin="scan", run_id="run-1")
    assert isinstance(opened, Token)
    assert (opened.plugin, opened.run_id, opened.capabilities) == ("scan", "run-1", (EMIT, PASSIVE))


def test_ten_capabilities_in_the_order_of_the_design() -> None:
    assert [each.value for each in Capability] == [
        "CAP_EMIT_FINDINGS",
        "CAP_HTTP_PASSIVE",
        "CAP_FLOW_INSPECT",
        "CAP_FLOW_INSPECT_RAW",
        "CAP_HTTP_ACTIVE",
        "CAP_WS",
        "CAP_SPIDER",
        "CAP_REPORT",
        "CAP_STORAGE",
        "CAP_AI_ANALYSIS",
    ]


def test_manifest_knows_the_same_names() -> None:
    from oxgen.manifest import CAPABILITY_NAMES

    assert list(CAPABILITY_NAMES) == [each.value for each in Capability]


@pytest.mark.parametrize("name", ["cap_ws", "CAP_WS ", "CAP_WS\0", "CAP_", "*", "", "CAP_ALL"])
def test_name_that_is_not_exact_is_unknown(name: str) -> None:
    with pytest.raises(CapabilityError) as caught:
        parse_capabilities([name])
    assert caught.value.reason == "unknown_capability"


def test_exact_name_is_known() -> None:
    assert parse_capabilities(["CAP_WS"]) == (Capability.CAP_WS,)


def test_empty_list_grants_nothing() -> None:
    issuer = Issuer()
    token = issuer.grant(plugin="scan", run_id="run-1", capabilities=[])
    opened = issuer.verify(token, plugin="scan", run_id="run-1")
    assert not any(opened.allows(each) for each in Capability)


def test_text_is_not_taken_for_a_list_of_names() -> None:
    with pytest.raises(CapabilityError):
        parse_capabilities("CAP_WS")


def test_raw_inspection_needs_inspection() -> None:
    with pytest.raises(CapabilityError) as caught:
        parse_capabilities(["CAP_FLOW_INSPECT_RAW"])
    assert caught.value.reason == "needs_capability"


def test_raw_inspection_with_inspection_is_granted() -> None:
    assert len(parse_capabilities(["CAP_FLOW_INSPECT_RAW", "CAP_FLOW_INSPECT"])) == 2


def test_token_lives_for_sixty_seconds() -> None:
    clock = Clock()
    issuer = Issuer(clock=clock)
    token = grant(issuer)
    clock.advance(59.999)
    assert reason(issuer, token) is None


def test_token_is_expired_after_sixty_seconds() -> None:
    clock = Clock()
    issuer = Issuer(clock=clock)
    token = grant(issuer)
    clock.advance(60)
    assert reason(issuer, token) == "expired"


def test_wall_clock_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    issuer = Issuer()
    token = grant(issuer)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    monkeypatch.setattr(time, "monotonic", lambda: 4e9)
    assert reason(issuer, token) is None


def test_clock_of_tokens_is_boottime() -> None:
    import time

    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= boottime_ns() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_token_of_another_plugin_is_refused() -> None:
    issuer = Issuer()
    assert reason(issuer, grant(issuer), plugin="other") == "wrong_plugin"


def test_token_of_another_run_is_refused() -> None:
    issuer = Issuer()
    assert reason(issuer, grant(issuer), run_id="run-2") == "wrong_run"


def test_token_of_another_process_is_refused() -> None:
    assert reason(Issuer(), grant(Issuer())) == "bad_mac"


def test_revoked_token_is_refused_at_once() -> None:
    issuer = Issuer()
    token = grant(issuer)
    assert issuer.revoke(token) is True
    assert reason(issuer, token) == "revoked"


def test_revoking_one_token_leaves_the_other() -> None:
    issuer = Issuer()
    one, other = grant(issuer), grant(issuer)
    issuer.revoke(one)
    assert reason(issuer, other) is None


def test_revoking_a_plugin_takes_its_tokens_only() -> None:
    issuer = Issuer()
    mine, also, other = grant(issuer), grant(issuer, run_id="run-2"), grant(issuer, plugin="other")
    assert issuer.revoke_plugin("scan") == 2
    assert reason(issuer, mine) == "revoked"
    assert reason(issuer, also, run_id="run-2") == "revoked"
    assert reason(issuer, other, plugin="other") is None


def test_revoking_a_run_takes_its_tokens_only() -> None:
    issuer = Issuer()
    mine, other = grant(issuer), grant(issuer, run_id="run-2")
    assert issuer.revoke_run("run-1") == 1
    assert reason(issuer, mine) == "revoked"
    assert reason(issuer, other, run_id="run-2") is None


def test_revocation_holds_across_threads() -> None:
    issuer = Issuer()
    tokens = [grant(issuer) for _ in range(200)]
    wrong: list[str | None] = []

    def revoke_all() -> None:
        for token in tokens:
            issuer.revoke(token)
            wrong.extend(each for each in [reason(issuer, token)] if each != "revoked")

    threads = [threading.Thread(target=revoke_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert issuer.live == 0


def test_session_is_not_ended_by_the_expiry() -> None:
    clock = Clock()
    issuer = Issuer(clock=clock)
    opened = issuer.verify(grant(issuer), plugin="scan", run_id="run-1")
    issuer.hold(opened.id)
    clock.advance(600)
    for _ in range(1100):  # Enough grants for a sweep.
        grant(issuer)
    assert not issuer.is_revoked(opened.id)


def test_session_is_ended_by_a_revocation() -> None:
    issuer = Issuer()
    opened = issuer.verify(grant(issuer), plugin="scan", run_id="run-1")
    issuer.hold(opened.id)
    issuer.revoke_plugin("scan")
    assert issuer.is_revoked(opened.id)


def test_token_opens_one_session() -> None:
    issuer = Issuer()
    opened = issuer.verify(grant(issuer), plugin="scan", run_id="run-1")
    issuer.hold(opened.id)
    with pytest.raises(CapabilityError) as caught:
        issuer.hold(opened.id)
    assert caught.value.reason == "in_use"


def test_token_of_an_ended_session_is_refused() -> None:
    issuer = Issuer()
    token = grant(issuer)
    opened = issuer.verify(token, plugin="scan", run_id="run-1")
    issuer.hold(opened.id)
    issuer.release(opened.id)
    assert reason(issuer, token) == "revoked"


def test_expired_tokens_are_forgotten() -> None:
    clock = Clock()
    issuer = Issuer(clock=clock)
    for _ in range(5000):
        grant(issuer)
        clock.advance(1)
    assert issuer.live <= 2048


def test_live_tokens_have_a_bound() -> None:
    issuer = Issuer(max_tokens=3)
    for _ in range(3):
        grant(issuer)
    with pytest.raises(CapabilityError) as caught:
        grant(issuer)
    assert caught.value.reason == "too_many"


def test_bound_gives_way_when_a_token_is_revoked() -> None:
    issuer = Issuer(max_tokens=1)
    issuer.revoke(grant(issuer))
    assert grant(issuer)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 3601, True, "60", None])
def test_lifetime_out_of_range_is_refused(seconds: object) -> None:
    with pytest.raises(UsageError):
        Issuer().grant(
            plugin="scan",
            run_id="run-1",
            capabilities=[EMIT],
            seconds=seconds,  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("behind", [" ", "\n", "=", "==", "\0", ".x", "\u00e9"])
def test_token_with_something_behind_it_is_refused(behind: str) -> None:
    issuer = Issuer()
    assert reason(issuer, grant(issuer) + behind) == "bad_encoding"


def test_token_with_another_character_is_refused() -> None:
    issuer = Issuer()
    assert reason(issuer, grant(issuer) + "A") in ("bad_encoding", "bad_mac")


@pytest.mark.parametrize("before", [" ", "\n", "\0", "=", "\ufeff", "+", "/"])
def test_token_with_something_before_it_is_refused(before: str) -> None:
    issuer = Issuer()
    assert reason(issuer, before + grant(issuer)) == "bad_encoding"


@pytest.mark.parametrize("token", ["", "A", "AAAA", "A" * 20000, b"bytes", None, 7])
def test_what_is_no_token_is_badly_encoded(token: object) -> None:
    assert reason(Issuer(), token) == "bad_encoding"  # type: ignore[arg-type]


def test_stray_bits_of_the_last_character_are_refused() -> None:
    issuer = Issuer()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # A token whose length is not a multiple of four has unused bits in its last character.
    token = next(
        made for made in (grant(issuer, plugin="x" * n) for n in range(1, 4)) if len(made) % 4
    )
    plugin = json.loads(base64.urlsafe_b64decode(token + "==")[:-32])["plugin"]
    other = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]
    assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(token + "==")
    assert reason(issuer, other, plugin=plugin) == "bad_encoding"
    assert reason(issuer, token, plugin=plugin) is None


def test_other_case_is_refused() -> None:
    issuer = Issuer()
    assert reason(issuer, grant(issuer).swapcase()) in ("bad_mac", "bad_encoding")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    issuer = Issuer()
    token = grant(issuer)
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
    assert reason(issuer, changed) == "bad_mac"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_refused_with_a_reason(text: str) -> None:
    assert reason(Issuer(), text) in ("bad_encoding", "bad_mac")


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_odd_names_are_bound_exactly(plugin: str, run_id: str) -> None:
    issuer = Issuer()
    token = grant(issuer, plugin=plugin, run_id=run_id)
    assert reason(issuer, token, plugin=plugin, run_id=run_id) is None
    assert reason(issuer, token, plugin=plugin + '"', run_id=run_id) == "wrong_plugin"
    assert reason(issuer, token, plugin=plugin, run_id=run_id + " ") == "wrong_run"


def test_longest_names_fit_into_a_token() -> None:
    issuer = Issuer()
    name = "\U0001f600" * 256
    token = issuer.grant(
        plugin=name,
        run_id=name,
        capabilities=[each.value for each in Capability],  # type: ignore[misc]
    )
    assert reason(issuer, token, plugin=name, run_id=name) is None


def test_refusal_never_shows_the_token() -> None:
    issuer = Issuer()
    token = grant(issuer)
    for plugin, bad in (("other", token), ("scan", token + "\n")):
        with pytest.raises(CapabilityError) as caught:
            issuer.verify(bad, plugin=plugin, run_id="run-1")
        assert token not in str(caught.value)


def test_grant_without_a_record_hands_out_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    audit = AuditLog(tmp_path / "audit.jsonl")
    issuer = Issuer(audit=audit)
    audit.close()
    with pytest.raises(OSError):
        grant(issuer)
    assert issuer.live == 0


def test_grant_and_revocation_are_recorded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as audit:
        issuer = Issuer(audit=audit)
        token = grant(issuer)
        issuer.revoke(token)
    events = [json.loads(line)["event"] for line in path.read_bytes().splitlines()]
    assert events == ["capability_grant", "capability_revoked"]
    assert token not in path.read_text()


def test_tokens_of_a_run_that_ended_are_forgotten() -> None:
    issuer = Issuer()
    first, second = (
        issuer.grant(plugin=name, run_id="run-1", capabilities=[]) for name in ("scan", "other")
    )
    kept = issuer.grant(plugin="scan", run_id="run-2", capabilities=[])
    issuer.revoke(second)
    issuer.forget_run("run-1")
    issuer.forget_run("run-1")
    assert issuer.live == 1
    with pytest.raises(CapabilityError) as caught:
        issuer.verify(first, plugin="scan", run_id="run-1")
    assert caught.value.reason == "revoked"
    assert issuer.verify(kept, plugin="scan", run_id="run-2").run_id == "run-2"


def test_plugins_that_say_nothing_do_not_use_the_tokens_up() -> None:
    issuer = Issuer(max_tokens=4)
    for number in range(100):
        issuer.grant(plugin="scan", run_id=f"run-{number}", capabilities=[])
        issuer.forget_run(f"run-{number}")
    assert issuer.live == 0
