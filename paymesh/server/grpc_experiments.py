"""Owns one environment variable that makes grpcio's Python server cheaper. Must run before `grpc` is imported.

The measurement, and when to drop this: docs/decisions/0002-grpc-experiments.md.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_EXPERIMENTS"
VALUE = "-event_engine_client,-event_engine_listener"


def apply() -> None:
    """Set the variable unless the operator did."""
    os.environ.setdefault(VARIABLE, VALUE)
