"""Owns one environment variable that grpc reads at import. Refuses nothing; imports nothing of grpc.

Since 1.76 grpcio runs its event engine, which costs each unary call of a Python server more CPU than the poller did
(grpc issues 43092 and 43222). What it costs here is measured in docs/decisions/0002-grpc-experiments.md.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_EXPERIMENTS"
WITHOUT_EVENT_ENGINE = "-event_engine_client,-event_engine_listener,-event_engine_dns"


def apply() -> None:
    """Set the variable unless the operator did. Without effect once grpc is imported, so call it first of all."""
    os.environ.setdefault(VARIABLE, WITHOUT_EVENT_ENGINE)
