"""Broker: the host's end of a plugin's only way out, and the HTTP flows it serves.

A plugin talks JSON-RPC 2.0 over one socket (`Broker`, docs/protocol.md). Flows come from a capture
(`read_har`) and leave sanitised (`sanitise`).
"""

from __future__ import annotations

from .flow import Flow
from .har import Capture, Skipped, read_har
from .sanitise import sanitise
from .session import Broker

__all__ = ["Broker", "Capture", "Flow", "Skipped", "read_har", "sanitise"]
