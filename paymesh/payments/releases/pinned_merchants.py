"""Owns how merchants that a release pins are told to ext_authz: one text a service, `v2=m1,m2;v3=m4`.

Envoy itself could only match them by a pattern, which it bounds to some hundred characters (`re2.max_program_size`,
seen with 1.40), or by a route each. Names of versions and merchants have none of the three separators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from paymesh.payments.releases.traffic import MERCHANT, Pin

_SERVICES = 256


def encode_pinned(pins: Iterable[Pin]) -> str:
    """Empty: no merchant is pinned. Of two pins of one merchant the first counts."""
    versions: dict[str, list[str]] = {}
    for merchant, version in {pin.value: pin.version for pin in reversed(tuple(pins)) if pin.kind == MERCHANT}.items():
        versions.setdefault(version, []).append(merchant)
    return ";".join(f"{version}={','.join(sorted(versions[version]))}" for version in sorted(versions))


@lru_cache(maxsize=_SERVICES)
def decode_pinned(text: str) -> Mapping[str, str]:
    """Version by merchant; the same text is read once."""
    found = {}
    for part in text.split(";"):
        version, _, merchants = part.partition("=")
        found.update(dict.fromkeys(merchants.split(","), version))
    return found
