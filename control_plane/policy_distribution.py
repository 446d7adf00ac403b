"""Owns handing the policy to the deciding services over ADS: a resource type of its own, with refusals of its own.

Services accept a policy before Envoys get its routes: publishing waits for every connected service, and one that says
no ends it. One that is merely slow is not waited for longer than `WAIT_S`: it refuses what it does not know yet, and
that is closed. Refuses to give the policy to whoever is not known: merchants, keys and limits are nobody else's.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.server.policy_resource import TYPE_URL, Documents, encode_documents, version_of

WAIT_S = 3.0
MAX_MESSAGE = 4000
_LOG = logging.getLogger(__name__)
Context: TypeAlias = grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]


@dataclass(frozen=True, slots=True)
class Admission:
    """Who gets the policy. `token`: whoever shows it. `names`: DNS names or URIs of client certificates. Neither: peers
    on this machine."""

    token: bytes | None = None
    names: frozenset[str] = frozenset()

    def admits(self, context: Context) -> bool:
        if self.token is not None:
            shown = dict(context.invocation_metadata() or ()).get("authorization", "")
            text = shown if isinstance(shown, str) else shown.decode("latin-1")
            if hmac.compare_digest(text.encode("latin-1", "replace"), b"Bearer " + self.token):
                return True
        if self.names:
            proven = context.auth_context().get("x509_subject_alternative_name", ())
            if any(name.decode("utf-8", "replace") in self.names for name in proven):
                return True
        if self.token is not None or self.names:
            return False
        return str(context.peer()).startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:"))


@dataclass(slots=True, eq=False)
class Subscriber:
    """One stream of one service. Versions are those of the documents."""

    id: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    sent: str = ""
    acked: str = ""
    refused: str = ""
    message: str = ""


class PolicyDistribution:
    """The policy that services are given, and what they say of it."""

    def __init__(self, documents: Documents, admission: Admission, draining: asyncio.Event) -> None:
        self._admission = admission
        self._draining = draining
        self._answered = asyncio.Event()
        self._subscribers: set[Subscriber] = set()
        self._before = documents
        self._set(documents)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(sorted(self._subscribers, key=lambda one: one.id))

    def _set(self, documents: Documents) -> None:
        self._documents, self._version, self._data = documents, version_of(documents), encode_documents(documents)
        for subscriber in self._subscribers:
            subscriber.wake.set()

    async def give(self, documents: Documents) -> None:
        """Give it to every connected service and wait for what they say. Raises PolicyErrors if one refuses it, and
        then they are given what was before again."""
        before = self._before = self._documents
        for one in self._subscribers:
            if one.refused == version_of(documents):
                one.sent = one.refused = ""  # tried again: what it lacked may be there now
        self._set(documents)
        version = self._version
        try:
            async with asyncio.timeout(WAIT_S):
                while (refused := self._refusal(version)) is None and not self._all_have(version):
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            slow = [one.id for one in self._subscribers if one.acked != version]
            _LOG.warning("services are slow to take the policy", extra={"fields": {"services": slow}})
            refused = self._refusal(version)
        if refused is not None:
            self._set(before)
            raise PolicyErrors([PolicyProblem(f"(service {refused.id})", 0, "", refused.message)])

    def take_back(self) -> None:
        """What Envoys refused is taken from the services, too: they get what was before again."""
        self._set(self._before)

    def _refusal(self, version: str) -> Subscriber | None:
        return next((one for one in self._subscribers if one.refused == version), None)

    def _all_have(self, version: str) -> bool:
        return all(one.acked == version for one in self._subscribers)

    async def stream(
        self,
        first: discovery_pb2.DiscoveryRequest,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: Context,
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """One service's stream (`xds.server.OtherStream`)."""
        if not self._admission.admits(context):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the policy is not for everyone")
        subscriber = Subscriber(first.node.id)
        self._subscribers.add(subscriber)
        # One that comes back has a policy: if it is this one, nothing is sent.
        subscriber.acked = first.version_info
        incoming = aiter(requests)
        asked = asyncio.ensure_future(anext(incoming, None))
        woken = asyncio.ensure_future(subscriber.wake.wait())
        drained = asyncio.ensure_future(self._draining.wait())
        try:
            while True:
                if self._version not in (subscriber.acked, subscriber.sent):
                    subscriber.sent = self._version
                    yield discovery_pb2.DiscoveryResponse(
                        version_info=self._version,
                        type_url=TYPE_URL,
                        nonce=self._version,
                        resources=[any_pb2.Any(type_url=TYPE_URL, value=self._data)],
                    )
                await asyncio.wait([asked, woken, drained], return_when=asyncio.FIRST_COMPLETED)
                if drained.done():
                    return
                if woken.done():
                    subscriber.wake.clear()
                    woken = asyncio.ensure_future(subscriber.wake.wait())
                if asked.done():
                    message = asked.result()
                    if message is None:
                        return
                    self._hear(subscriber, message)
                    asked = asyncio.ensure_future(anext(incoming, None))
        finally:
            for task in (asked, woken, drained):
                task.cancel()
            self._subscribers.discard(subscriber)
            self._answered.set()

    def _hear(self, subscriber: Subscriber, message: discovery_pb2.DiscoveryRequest) -> None:
        if message.response_nonce != subscriber.sent:
            return  # of what was replaced since
        if message.HasField("error_detail"):
            subscriber.refused, subscriber.message = subscriber.sent, message.error_detail.message[:MAX_MESSAGE]
            fields = {"from": subscriber.id, "message": subscriber.message}
            _LOG.error("a service refused the policy", extra={"fields": fields})
        else:
            subscriber.acked, subscriber.refused, subscriber.message = subscriber.sent, "", ""
        self._answered.set()
