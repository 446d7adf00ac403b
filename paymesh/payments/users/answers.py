"""Owns reading what a provider answers. An answer that makes no sense is an outage: it says nothing of the token."""

from __future__ import annotations

from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.bodies.json_body import JsonDocument, parse_json
from paymesh.payments.bodies.limits import BodyLimits
from paymesh.payments.denial import Unavailable
from paymesh.payments.jose.fetch import FetchResponse

MAX_ANSWER_BYTES = 64 * 1024
_LIMITS = BodyLimits(max_bytes=MAX_ANSWER_BYTES, max_depth=16, max_members=2000)


def read_document(response: FetchResponse) -> JsonDocument:
    """The JSON object of a 200. Raises Unavailable for everything else."""
    if response.status != 200:
        raise unexpected(response)
    kind = None
    try:
        return parse_json(response.body, _LIMITS, object_only=True)
    except BodyError as error:
        kind = error.kind
    raise Unavailable(f"the provider's answer is refused: {kind}")


def read_object(response: FetchResponse) -> dict[str, object]:
    """Its members. Raises Unavailable."""
    value = read_document(response).value
    assert isinstance(value, dict)  # object_only
    return value


def unexpected(response: FetchResponse) -> Unavailable:
    """For a status that says nothing of the token."""
    return Unavailable(f"the provider answered with status {response.status}")
