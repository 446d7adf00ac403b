"""Owns asking a user provider who sent a request: remembered, each token asked about once at a time, bounded.

Refuses to let an outage look like a refusal: what cannot be found out now is Unavailable. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from paymesh.payments.denial import Denial, Reason, Unavailable
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.request import Request
from paymesh.payments.users.alipay_oauth import exchange_alipay_code
from paymesh.payments.users.answer_cache import CAPACITY, AnswerCache, Key, cache_key
from paymesh.payments.users.introspection import introspect
from paymesh.payments.users.jwt_user import verify_jwt
from paymesh.payments.users.providers import (
    AlipayOauthProvider,
    IntrospectionProvider,
    JwtProvider,
    RemoteProvider,
    UserinfoProvider,
    UserProvider,
    WechatOauthProvider,
)
from paymesh.payments.users.token import read_token
from paymesh.payments.users.user import User
from paymesh.payments.users.userinfo import ask_userinfo
from paymesh.payments.users.wechat_oauth import exchange_wechat_code

_LOG = logging.getLogger(__name__)
MAX_WAITING = 1000
"""Questions to one provider, under way and waiting; one more is Unavailable at once."""

_ASK: Mapping[type[RemoteProvider], Callable[[Any, str, HttpFetch, int], Awaitable[User | Denial]]] = {
    IntrospectionProvider: introspect,
    UserinfoProvider: ask_userinfo,
    AlipayOauthProvider: exchange_alipay_code,
    WechatOauthProvider: exchange_wechat_code,
}


class UserIdentifier:
    """Asks providers, and remembers. It outlives policies, as the key sources do."""

    def __init__(self, fetch: HttpFetch, key_sources: KeySources, capacity: int = CAPACITY) -> None:
        self._fetch = fetch
        self._key_sources = key_sources
        self._cache = AnswerCache(capacity)
        self._under_way: dict[Key, asyncio.Task[User | Denial]] = {}
        self._turns: dict[tuple[str, int], asyncio.Semaphore] = {}

    async def identify_by_any(self, request: Request, providers: Sequence[UserProvider], now_s: int) -> User | Denial:
        """The first provider's word that names a person. Raises Unavailable where one could not be asked and none did.

        Each is asked only about a token that stands where it reads it.
        """
        refused: Denial | None = None
        unasked: Unavailable | None = None
        for provider in providers:
            try:
                found = await self.identify(request, provider, now_s)
            except Unavailable as outage:
                unasked = outage
                continue
            if isinstance(found, User):
                return found
            if found.reason is not Reason.USER_MISSING:
                refused = replace(found, detail=f"{provider.name}: {found.detail}")
        if unasked is not None:
            raise unasked
        return refused or Denial(Reason.USER_MISSING, "no token for " + ", ".join(one.name for one in providers))

    async def identify(self, request: Request, provider: UserProvider, now_s: int) -> User | Denial:
        """Who sent the request, by this provider. USER_MISSING: no token for it. Raises Unavailable."""
        token = read_token(request, provider.token_from)
        if token is None:
            return Denial(Reason.USER_MISSING, f"no token for {provider.name}")
        if isinstance(token, Denial):
            return token
        if isinstance(provider, JwtProvider):
            # Not remembered: a key that its issuer withdraws must end its tokens, and verifying costs microseconds.
            return await verify_jwt(provider, token, self._key_sources, now_s)
        key = cache_key(provider, token)
        known = self._cache.get(key, now_s)
        if known is not None:
            return known
        # Shielded: a caller that goes away must not cost the others their answer, nor a person their one code.
        return await asyncio.shield(self._begin(key, provider, token, now_s))

    async def close(self) -> None:
        """End what is under way."""
        for task in tuple(self._under_way.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Unavailable):
                await task

    def _begin(self, key: Key, provider: RemoteProvider, token: str, now_s: int) -> asyncio.Task[User | Denial]:
        task = self._under_way.get(key)
        if task is None:
            if sum(name == provider.name for name, _, _ in self._under_way) >= MAX_WAITING:
                raise Unavailable(f"too many questions wait for {provider.name}")
            task = asyncio.create_task(self._ask(key, provider, token, now_s), name=f"user provider {provider.name}")
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, provider.name, done))
        return task

    async def _ask(self, key: Key, provider: RemoteProvider, token: str, now_s: int) -> User | Denial:
        turn = (provider.name, provider.max_concurrent_requests)
        turns = self._turns.setdefault(turn, asyncio.Semaphore(provider.max_concurrent_requests))
        try:
            async with asyncio.timeout(provider.timeout_s), turns:
                answer = await _ASK[type(provider)](provider, token, self._fetch, now_s)
        except TimeoutError:
            raise Unavailable(f"{provider.name}: no answer in time") from None
        self._cache.put(key, answer, now_s)
        return answer

    def _ended(self, key: Key, name: str, task: asyncio.Task[User | Denial]) -> None:
        del self._under_way[key]
        if task.cancelled() or (error := task.exception()) is None:
            return
        # Whoever waited has it, too; nobody may be left.
        _LOG.warning("user not identified", extra={"fields": {"provider": name, "error": type(error).__name__}})
