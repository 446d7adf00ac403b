"""Key rings for tests."""

from __future__ import annotations

from paymesh.payments.policy.field_rules import FieldKey, KeyRing
from paymesh.payments.secrets import Secret


def ring(*keys: tuple[str, int | None], name: str = "pii") -> KeyRing:
    """A ring of keys by id and valid_from; a key's secret follows from its id alone."""
    made = [FieldKey(id_, Secret(id_.encode().ljust(32, b".")), since) for id_, since in keys]
    return KeyRing(name, tuple(made), {key.id: key for key in made})


PII = ring(("k1", None))
NOW_S = 1_790_000_000
