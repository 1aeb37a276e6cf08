"""Capabilities: what a plugin may ask the broker for, the tokens that prove it, the audit log.

A capability opens one surface of the broker and nothing else: it never changes the jail. Names are
in `names`, tokens in `tokens`, the record of who was granted and refused what in `audit`.
"""

from __future__ import annotations

from .audit import AuditLog
from .clock import boottime_ns
from .names import REQUIRES, Capability, parse_capabilities
from .tokens import DEFAULT_SECONDS, MAX_SECONDS, Issuer, Token

__all__ = [
    "DEFAULT_SECONDS",
    "MAX_SECONDS",
    "REQUIRES",
    "AuditLog",
    "Capability",
    "Issuer",
    "Token",
    "boottime_ns",
    "parse_capabilities",
]
