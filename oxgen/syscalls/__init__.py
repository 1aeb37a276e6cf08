"""Policies on system calls: values, where they come from, and how they become a filter.

Every cell has the filter ``default``, whatever is asked for. A policy is put on top of it, for the
program alone, and the kernel takes the more restrictive answer of the two: a policy narrows, and
what it would allow beyond ``default`` stays refused.
"""

from __future__ import annotations

from .compiler import compile_policy
from .machine import ALLOW, ERRNO, KILL, MISMATCH, answers, evaluate
from .oci import Profile, load_profile, read_profile, write_profile
from .policy import Action, Comparison, Policy, Rule
from .strict import STRICT
from .table import AARCH64, ARCHES, X86_64, Table, arch_name

__all__ = [
    "AARCH64",
    "ALLOW",
    "ARCHES",
    "ERRNO",
    "KILL",
    "MISMATCH",
    "STRICT",
    "X86_64",
    "Action",
    "Comparison",
    "Policy",
    "Profile",
    "Rule",
    "Table",
    "answers",
    "arch_name",
    "compile_policy",
    "evaluate",
    "load_profile",
    "read_profile",
    "write_profile",
]
