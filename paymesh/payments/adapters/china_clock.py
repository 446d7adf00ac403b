"""Owns writing moments as Alipay and UnionPay write them: Asia/Shanghai, UTC+8 (`china_time.py` reads them)."""

from __future__ import annotations

import datetime

_CHINA = datetime.timezone(datetime.timedelta(hours=8))


def china_text(at_s: int, layout: str) -> str:
    """Unix seconds in `strftime`'s layout."""
    return datetime.datetime.fromtimestamp(at_s, _CHINA).strftime(layout)
