"""Owns which key sets are fetched: those of the policy in force, before their first token, and no others."""

from __future__ import annotations

import asyncio
import contextlib

from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.policy.compile_users import key_set_urls
from paymesh.payments.policy.compiled import Policy


class KeySets:
    """The sources outlive policies: a reload keeps what was fetched."""

    def __init__(self, fetch: HttpFetch) -> None:
        self.sources = KeySources(fetch)
        self._fetching: asyncio.Task[None] | None = None

    async def fetch_those_of(self, policy: Policy) -> None:
        """Fetch what is not there yet. A URL that fails is logged, and asked again when its turn comes."""
        await self.sources.prefetch(_urls(policy))

    async def on_reload(self, policy: Policy) -> None:
        """Begin to fetch, without waiting: a key that the new policy revokes must not work for a moment longer."""
        self.sources.keep_only(_urls(policy))
        await self._stop_fetching()
        self._fetching = asyncio.create_task(self.fetch_those_of(policy))

    async def aclose(self) -> None:
        await self._stop_fetching()
        await self.sources.close()

    async def _stop_fetching(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._fetching


def _urls(policy: Policy) -> frozenset[str]:
    issuers = {issuer.keys for issuer in policy.jwt_issuers.values() if isinstance(issuer.keys, str)}
    return key_set_urls(policy.user_providers) | issuers
