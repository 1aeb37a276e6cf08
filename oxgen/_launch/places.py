"""Places: where cells without a mount namespace have their directories on disk."""

from __future__ import annotations

import contextlib
import os

__all__ = ["directory_of"]

#: ``char directory[256]`` of ``struct ox_config``, with its NUL.
_LONGEST = 255


def directory_of(level: str) -> str:
    """Return the directory below which a launcher of this level makes its own; "" for its default.

    Root's is /run/oxgen. An ordinary user's is XDG_RUNTIME_DIR, else tmp in the home directory,
    which is made if need be; whether it will do, the launcher finds out.
    """
    if level != "landlock" or os.geteuid() == 0:
        return ""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        place = runtime
    else:
        home = os.path.expanduser("~")
        place = os.path.join(home, "tmp") if os.path.isabs(home) else ""
        if place:
            # What prevents it is what the launcher then stumbles over and names.
            with contextlib.suppress(OSError):
                os.mkdir(place, 0o700)
    return place if len(os.fsencode(place)) <= _LONGEST else ""
