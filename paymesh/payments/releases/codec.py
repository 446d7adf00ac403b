"""Owns plans and states as JSON, as they are kept and shown."""

from __future__ import annotations

import json
from typing import Any

from paymesh.payments.releases.plan import Gate, Hold, Kind, OnFailure, Plan, SetWeight, Step
from paymesh.payments.releases.state import Phase, State, Verdict

_STEPS: dict[str, type[SetWeight | Hold | Gate]] = {"set_weight": SetWeight, "hold": Hold, "gate": Gate}


def encode_plan(plan: Plan) -> str:
    document = {
        "name": plan.name,
        "service": plan.service,
        "kind": plan.kind,
        "stable": plan.stable,
        "target": plan.target,
        "steps": [_encode_step(step) for step in plan.steps],
        "analysed": plan.analysed,
        "on_failure": plan.on_failure,
        "depends_on": plan.depends_on,
    }
    return json.dumps(document, separators=(",", ":"))


def decode_plan(text: str) -> Plan:
    """Raises ValueError for what is no plan."""
    try:
        read: dict[str, Any] = json.loads(text)
        return Plan(
            name=read["name"],
            service=read["service"],
            kind=Kind(read["kind"]),
            stable=read["stable"],
            target=read["target"],
            steps=tuple(_decode_step(step) for step in read["steps"]),
            analysed=read["analysed"],
            on_failure=OnFailure(read["on_failure"]),
            depends_on=tuple((service, version) for service, version in read["depends_on"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no plan: {type(error).__name__}") from error


def encode_state(state: State) -> str:
    document = {name: getattr(state, name) for name in State.__dataclass_fields__}
    return json.dumps(document, separators=(",", ":"))


def decode_state(text: str) -> State:
    """Raises ValueError for what is no state."""
    try:
        read: dict[str, Any] = json.loads(text)
        return State(
            **{
                **read,
                "phase": Phase(read["phase"]),
                "before": None if read["before"] is None else Phase(read["before"]),
                "verdict": None if read["verdict"] is None else Verdict(read["verdict"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no state: {type(error).__name__}") from error


def _encode_step(step: Step) -> dict[str, object]:
    name = next(name for name, kind in _STEPS.items() if isinstance(step, kind))
    return {"step": name, **{field: getattr(step, field) for field in step.__dataclass_fields__}}


def _decode_step(read: dict[str, Any]) -> Step:
    told = dict(read)
    return _STEPS[told.pop("step")](**told)
