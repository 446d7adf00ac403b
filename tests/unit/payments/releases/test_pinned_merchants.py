"""Merchants that a release pins come back as they were told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.releases.pinned_merchants import decode_pinned, encode_pinned
from paymesh.payments.releases.traffic import COOKIE, HEADER, MERCHANT, Pin

NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}", fullmatch=True)
MERCHANTS = st.from_regex(r"[A-Za-z0-9_.:@-]{1,8}", fullmatch=True)


@given(st.dictionaries(MERCHANTS, NAMES, min_size=1, max_size=20))
def test_what_is_written_is_read(versions: dict[str, str]) -> None:
    pins = [Pin(MERCHANT, "", merchant, version) for merchant, version in versions.items()]
    assert decode_pinned(encode_pinned(pins)) == versions


def test_only_merchants_and_the_first_of_two() -> None:
    assert encode_pinned([Pin(HEADER, "x-try", "yes", "v2"), Pin(COOKIE, "trial", "on", "v2")]) == ""
    pins = [Pin(MERCHANT, "", "m1", "v2"), Pin(MERCHANT, "", "m2", "v1"), Pin(MERCHANT, "", "m1", "v1")]
    assert encode_pinned(pins) == "v1=m2;v2=m1"
