"""Owns noticing that a request came with two Authorization headers: one service would read the first, another the last.

Envoy keeps a single Authorization header and joins a second one to it with a comma (seen with 1.40, also where headers
are sent raw), so two credentials have to be found inside one value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTED = re.compile(r'"[^"]*"')
_SECOND = re.compile(r",[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]+(?![ \t=])")
"""After a comma stands `name=` in one credential (RFC 9110 section 11.4), and `scheme ` where another one begins."""


def came_twice(values: Sequence[str]) -> bool:
    """Whether there is more than one credential in the header's values."""
    return len(values) > 1 or any(
        "," in value and _SECOND.search(_QUOTED.sub('""', value)) is not None for value in values
    )
