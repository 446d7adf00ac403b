"""Owns reading the providers' local times: Asia/Shanghai, UTC+8, without summer time since 1991."""

from __future__ import annotations

import datetime

_CHINA = datetime.timezone(datetime.timedelta(hours=8))


def china_seconds(text: str, layout: str) -> int | None:
    """Unix seconds of a local time in `strptime`'s layout; None for anything else."""
    try:
        return int(datetime.datetime.strptime(text, layout).replace(tzinfo=_CHINA).timestamp())
    except ValueError:
        return None
