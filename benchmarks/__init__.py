"""Benchmarks: one confined launch against every other way to start a program.

``make bench`` runs them; benchmarks/README.md says what each row promises and how to read it.
"""
