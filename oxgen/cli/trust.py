"""Trust: where the trust root is, as the command line finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import IntegrityError

if TYPE_CHECKING:
    from ..integrity import TrustRoot

__all__ = ["locate"]


def locate(explicit: str | None) -> TrustRoot:
    """Find the trust root as ``TrustRoot.locate`` does; ``explicit`` is ``--trust-root``.

    Where the current directory is gone, there is nothing that a relative path could name: that is
    ``IntegrityError`` ``not_found`` as well.
    """
    from ..integrity import TrustRoot

    try:
        return TrustRoot.locate(explicit)
    except FileNotFoundError:
        raise IntegrityError(
            "not_found",
            "there is no trust root: the current directory does not exist any more; cd to one that"
            " does, or name one by an absolute path with --trust-root",
        ) from None
