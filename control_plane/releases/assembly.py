"""Owns putting releases together: what moves them, looks at them, asks others and answers people."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from control_plane.gateway import Gateway
from control_plane.releases.exposures import Exposures
from control_plane.releases.metrics import ReleaseMetrics
from control_plane.releases.observed import Observed
from control_plane.releases.receipt_files import ReceiptFiles
from control_plane.releases.runner import ReleaseRunner
from control_plane.releases.service import ReleasesService
from control_plane.releases.store import ReleaseStore
from control_plane.releases.traffic_analyst import TrafficAnalyst
from control_plane.releases.web_hooks import WebHooks
from control_plane.releases.xds_router import XdsRouter
from control_plane.xds.load_reports import LoadReports
from paymesh.server.http_fetch import AiohttpFetch


class Releases:
    """Of one control plane. `receipts`: the folder that they are written to."""

    def __init__(
        self,
        gateway: Gateway,
        store: ReleaseStore,
        observed: Observed,
        loads: LoadReports,
        registry: CollectorRegistry,
        receipts: Path,
    ) -> None:
        """Raises sqlite3.Error, ValueError for releases on disk that cannot be read."""
        self._fetch = AiohttpFetch()
        router = XdsRouter(gateway)
        analyst = TrafficAnalyst(observed, loads, self._fetch, now_s)
        self.runner = ReleaseRunner(store, router, analyst, WebHooks(self._fetch), now_s)
        self._exposures = Exposures(store, self.runner, observed.totals)
        self._receipts = ReceiptFiles(receipts, store, self.runner, self._exposures)
        self.service = ReleasesService(gateway, self.runner, router, store, observed, self._exposures)
        gateway.keeps = self.runner.needs
        registry.register(ReleaseMetrics(self.runner, gateway))

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.gather(self.runner.run(), self._exposures.run(), self._receipts.run())
        finally:
            await self._fetch.aclose()


def now_s() -> int:
    """Unix seconds."""
    return int(time.time())
