"""Findings: what a plugin or the supervisor reports, schema 0.2, one JSON object a line.

Every text in a finding comes from somebody who may be hostile. A line is ASCII only (0x20 to 0x7e),
so that no line break that some reader knows (U+2028, U+0085 ...) and no escape sequence can be in
it; who shows a finding uses ``escape_text``. The schema is 0xGen's ``findings.schema.json``; the
sizes are ours.
"""

from __future__ import annotations

from .escape import escape_text
from .ids import new_id
from .lines import FindingsWriter, LineReport, validate_lines
from .schema import (
    MAX_LINE_BYTES,
    MAX_TEXT_BYTES,
    SCHEMA_VERSION,
    Finding,
    Severity,
    parse_finding,
)
from .termination import TERMINATION_TYPE, termination_finding

__all__ = [
    "MAX_LINE_BYTES",
    "MAX_TEXT_BYTES",
    "SCHEMA_VERSION",
    "TERMINATION_TYPE",
    "Finding",
    "FindingsWriter",
    "LineReport",
    "Severity",
    "escape_text",
    "new_id",
    "parse_finding",
    "termination_finding",
    "validate_lines",
]
