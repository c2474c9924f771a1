# ruff: noqa: INP001 - read by hatchling when a wheel is built; not part of any package
"""Gives both wheels their version: `TIDEGATE_VERSION` when a release is built, 0.1.0 in a working tree."""

import os

__version__ = os.environ.get("TIDEGATE_VERSION") or "0.1.0"
