"""Flow: one HTTP exchange of a capture, as plain text values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Flow", "Header"]

Header = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One request and its response.

    Header names and values stand as they were sent, in their order, repeated ones each by itself;
    HTTP/2 pseudo headers are left out. ``set_cookies`` are the values of the ``Set-Cookie`` fields,
    or, where a recorder kept only its parsed cookies, fields made from those. ``body`` is the
    response body as text, None where it is binary or was not recorded, cut where ``body_truncated``
    says so; ``body_size`` its size in bytes before that, None where nobody recorded it.
    """

    id: str
    method: str
    url: str
    http_version: str
    request_headers: tuple[Header, ...]
    status: int
    response_headers: tuple[Header, ...]
    set_cookies: tuple[str, ...] = ()
    body: str | None = None
    body_size: int | None = None
    body_truncated: bool = False
    mime_type: str = ""
    started_at: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the flow as the protocol sends it: JSON values only."""
        return {
            "id": self.id,
            "method": self.method,
            "url": self.url,
            "http_version": self.http_version,
            "request_headers": [list(pair) for pair in self.request_headers],
            "status": self.status,
            "response_headers": [list(pair) for pair in self.response_headers],
            "set_cookies": list(self.set_cookies),
            "body": self.body,
            "body_size": self.body_size,
            "body_truncated": self.body_truncated,
            "mime_type": self.mime_type,
            "started_at": self.started_at,
        }
