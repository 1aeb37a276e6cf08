"""Seen: plugins that were approved before, so that the next launch reads and hashes nothing again.

What is kept is the sealed copy and the state that the verdict rests on (`state`). It is asked at
every use, in every process by itself: a key, a line of the ALLOWLIST or a file that has changed or
gone by then is seen then.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

from ..limits import MIB
from .approved import Approved
from .state import State

__all__ = ["Key", "recall", "remember"]

_PLUGINS_MOST = 64
_BYTES_MOST = 256 * MIB

#: Trust root, whether it is implicit, who asks, and what the plugin was called.
Key = tuple[str, bool, int, str]


@dataclass(frozen=True, slots=True)
class _Verdict:
    approved: Approved
    state: State
    #: The paths of the plugin's folder and manifest, and which of them was named, if any was.
    folder: str
    manifest: str
    named: str

    def holds(self, text: str) -> bool:
        """Whether ``text`` means the same as then, and all that was looked at is as it was."""
        if text in (self.folder, self.manifest):
            return self.state.holds()
        if self.named == "folder":
            same = self.state.is_at(text, self.folder)
        elif self.named == "manifest":
            same = self.state.is_file(text, self.manifest)
        else:
            same = not os.access(text, os.F_OK, follow_symlinks=False)
        return same and self.state.holds()


_verdicts: OrderedDict[Key, _Verdict] = OrderedDict()
_lock = threading.Lock()


def recall(key: Key) -> Approved | None:
    """Return the approval of a plugin that was approved before, if everything is as it was."""
    verdict = _verdicts.get(key)
    if verdict is None:
        return None
    if verdict.holds(key[3]):
        with _lock:
            if key in _verdicts:
                _verdicts.move_to_end(key)
        return verdict.approved.again()
    with _lock:
        if _verdicts.get(key) is verdict:
            del _verdicts[key]
    return None


def remember(key: Key, approved: Approved, state: State, *, folder: str, manifest: str) -> None:
    """Keep an approval for the next time, unless its state cannot be asked or it is too large.

    At most 64 plugins and 256 MiB are kept; what was not used for longest goes first.
    """
    if approved.size > _BYTES_MOST or not state.can_be_asked:
        return
    text = key[3]
    if state.is_at(text, folder):
        named = "folder"
    elif state.is_file(text, manifest):
        named = "manifest"
    elif os.path.lexists(text):
        return  # it has just come to mean something else
    else:
        named = ""
    verdict = _Verdict(approved.again(), state, folder, manifest, named)
    with _lock:
        _verdicts[key] = verdict
        _verdicts.move_to_end(key)
        while len(_verdicts) > _PLUGINS_MOST or _kept_bytes() > _BYTES_MOST:
            _verdicts.popitem(last=False)


def _kept_bytes() -> int:
    return sum(verdict.approved.size for verdict in _verdicts.values())


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
