"""Builders: (spec, context) -> child manifests, nothing else; one file per child.

Manifests carry neither namespace nor owner references: `apply.py` adds both.
"""
