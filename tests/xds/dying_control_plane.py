"""A control plane that kills itself (SIGKILL) at the so-many-th thing that its releases do durably.

    python -m tests.xds.dying_control_plane POINT FILE FLAGS...

Points are counted before and after each change of a release's state and each change of traffic; FILE gets a line for
each. POINT 0: it lives.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from paymesh.server import grpc_experiments

grpc_experiments.apply()

from control_plane.releases.store import ReleaseStore  # noqa: E402
from control_plane.releases.xds_router import XdsRouter  # noqa: E402
from control_plane.server import main  # noqa: E402


def dying(at: int, file: Path) -> None:
    passed = 0

    def point(name: str) -> None:
        nonlocal passed
        passed += 1
        with file.open("a") as opened:
            opened.write(f"{name}\n")
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)

    change, apply = ReleaseStore.change, XdsRouter.apply

    def fragile_change(self: ReleaseStore, name: str, before: Any, after: Any, *more: Any) -> None:
        point(f"before {before.phase} step {before.step} -> {after.phase} step {after.step}")
        change(self, name, before, after, *more)
        point(f"after {before.phase} step {before.step} -> {after.phase} step {after.step}")

    async def fragile_apply(self: XdsRouter, service: str, wanted: Any, who: str, why: str) -> None:
        point(f"before traffic {dict(wanted.weights)}")
        await apply(self, service, wanted, who, why)
        point(f"after traffic {dict(wanted.weights)}")

    ReleaseStore.change = fragile_change  # type: ignore[method-assign]
    XdsRouter.apply = fragile_apply  # type: ignore[method-assign]


if __name__ == "__main__":
    dying(int(sys.argv[1]), Path(sys.argv[2]))
    raise SystemExit(main(sys.argv[3:]))
