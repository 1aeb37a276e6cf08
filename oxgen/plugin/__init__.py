"""Running plugins: an approved artifact, in a cell, with a broker beside it."""

from __future__ import annotations

from .connection import Serves
from .run import BROKER_DESCRIPTOR, run_plugin

__all__ = ["BROKER_DESCRIPTOR", "Serves", "run_plugin"]
