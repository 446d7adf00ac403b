"""Owns plans and states as JSON, as they are kept and shown. Refuses nothing that it wrote itself."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.state import State

_T = TypeVar("_T", Plan, State)
_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)
_STATE: TypeAdapter[State] = TypeAdapter(State)


def encode_plan(plan: Plan) -> str:
    return _PLAN.dump_json(plan).decode()


def decode_plan(text: str) -> Plan:
    """Raises ValueError for what is no plan."""
    return _decoded(_PLAN, text)


def encode_state(state: State) -> str:
    return _STATE.dump_json(state).decode()


def decode_state(text: str) -> State:
    """Raises ValueError for what is no state."""
    return _decoded(_STATE, text)


def _decoded(kind: TypeAdapter[_T], text: str) -> _T:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{error.title} cannot be read: {error.error_count()} faults") from None
