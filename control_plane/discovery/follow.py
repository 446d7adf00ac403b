"""Owns following the registries for every service of the policy in force: what they find reaches the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence

from control_plane.discovery.contract import Registry
from control_plane.gateway import Gateway
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import Service, ServiceVersion

_LOG = logging.getLogger(__name__)
AGAIN_AFTER_S = 1.0


class Discovery:
    """One task a version that some registry finds, as the policy in force has them."""

    def __init__(self, gateway: Gateway, registries: Sequence[Registry]) -> None:
        self._gateway = gateway
        self._registries = tuple(registries)
        self._following: dict[tuple[Registry, Service, ServiceVersion], asyncio.Task[None]] = {}

    @property
    def problems(self) -> Mapping[str, str]:
        """By cluster: why what a registry said last is not in force."""
        return {name: text for registry in self._registries for name, text in registry.problems.items()}

    async def run(self) -> None:
        """Until cancelled."""
        try:
            with self._gateway.fleet.changes() as changed:
                while True:
                    await self._adjust()
                    await changed.wait()
                    changed.clear()
        finally:
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(*self._following.values(), return_exceptions=True)

    async def _adjust(self) -> None:
        wanted = {
            (registry, service, version)
            for service in self._gateway.policy.services.values()
            for version in service.versions
            for registry in self._registries
            if registry.finds(version)
        }
        gone = [self._following.pop(key) for key in self._following.keys() - wanted]
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        for key in wanted - self._following.keys():
            self._following[key] = asyncio.create_task(self._follow(*key))

    async def _follow(self, registry: Registry, service: Service, version: ServiceVersion) -> None:
        name = version_cluster(service.name, version.name)
        while True:
            try:
                async with contextlib.aclosing(registry.hosts(service, version)) as found:  # type: ignore[type-var]
                    async for hosts in found:
                        await self._gateway.use_hosts(name, hosts)
            except Exception as error:  # the next change must still be seen
                _LOG.error("discovery failed", exc_info=error, extra={"fields": {"cluster": name}})
            await asyncio.sleep(AGAIN_AFTER_S)
