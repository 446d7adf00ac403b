"""Owns looking at one release again and again, through outages of the control plane."""

from __future__ import annotations

import argparse
import sys

import grpc

from control_plane.releases import releases_pb2 as pb
from paymesh.cli.release.action import get_release

EVERY_S = 1.0
_OUTAGES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


class Watched:
    """`answered`: the last look got an answer. A connection a look: one that waits to reconnect would show a control
    plane as gone after it came back."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._seen: pb.Release | None = None
        self.answered = True

    async def look(self) -> pb.Release:
        """The release now; in an outage, as it was seen last. Raises AioRpcError when it was never seen, and for
        whatever is no outage; UnusableFile."""
        try:
            self._seen = await get_release(self._args)
        except grpc.aio.AioRpcError as error:
            if self._seen is None or error.code() not in _OUTAGES:
                raise
            self.answered = False
        else:
            self.answered = True
        return self._seen


class OutageTold:
    """Says on stderr that nobody answers, and that somebody does again: once each."""

    def __init__(self, admin: str) -> None:
        self._admin = admin
        self._answered = True

    def tell(self, answered: bool) -> None:
        if answered == self._answered:
            return
        self._answered = answered
        text = "answers again" if answered else "does not answer; asked again until it does"
        print(f"the control plane on {self._admin} {text}", file=sys.stderr, flush=True)
