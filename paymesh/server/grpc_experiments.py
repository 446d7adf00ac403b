"""Owns one environment variable that grpc reads at import. Refuses nothing; imports nothing of grpc.

grpcio's event engine costs each unary call of a Python server more CPU than its older poller, most when calls come one
at a time (grpc issues 43092 and 43222). Measured by bench/grpc_experiments.py; the figures and why `event_engine_dns`
is not in the list: docs/decisions/0002-grpc-experiments.md.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_EXPERIMENTS"
WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener"


def apply() -> None:
    """Set the variable unless the operator did. Without effect once grpc is imported, so call it first of all."""
    os.environ.setdefault(VARIABLE, WITHOUT_EVENT_ENGINE)
