"""Owns learning which version of its service each order began on, from the cluster that Envoy's access log names.

Refuses to hold anybody up: what the store cannot take now is told again beside, and at last given up. The order then
goes where the split sends it, as before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter

from ext_authz.steps.order import ORDER_RECORD_S
from ext_authz.tries import Tries
from paymesh.payments import internal_names as names
from paymesh.payments.notices import order_key
from paymesh.payments.order_versions import OrderVersions, version_of_cluster
from paymesh.payments.policy.compiled import Operation, Policy
from paymesh.server.access_log import Finished

_LOG = logging.getLogger(__name__)
_PAYMENT = order_key(Operation.PAY, "")
"""How the key of an order begins that is being paid; an idempotency key begins otherwise."""


class LearntVersions:
    """Tells the store where payments went. Implements the access log's `Listener`."""

    def __init__(self, versions: OrderVersions, policy: Callable[[], Policy], registry: CollectorRegistry) -> None:
        self._versions = versions
        self._policy = policy
        self._tries = Tries(self._give_up)
        self._lost = Counter(
            "paymesh_ext_authz_order_versions_lost",
            "Payments whose service's version could not be recorded.",
            registry=registry,
        )

    async def finished(self, exchange: Finished) -> None:
        said = exchange.decision
        if said.get(names.META_OPERATION) != Operation.PAY or not exchange.reached_service:
            return
        merchant, key = said.get(names.META_MERCHANT), _order_of(said)
        version = version_of_cluster(exchange.upstream_cluster, self._policy())
        if merchant is None or key is None or version is None:
            return
        now_s = int(time.time())
        expires_at_s = now_s + ORDER_RECORD_S
        await self._tries.tell(lambda: self._versions.record(merchant, key, version, expires_at_s, now_s))

    async def close(self) -> None:
        """Tell what can be told at once; the rest is lost."""
        await self._tries.close()

    def _give_up(self) -> None:
        self._lost.inc()
        _LOG.warning("an order's version not recorded: the split decides")


def _order_of(said: Mapping[str, str]) -> str | None:
    keys = said.get(names.META_ORDER_KEYS, "").split("\n")
    return next((key for key in keys if key.startswith(_PAYMENT)), None)
