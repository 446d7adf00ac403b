"""What a service keeps of the policy: whole or not at all, and followed again whatever went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2

from paymesh.payments.policy.problems import PolicyErrors
from paymesh.server.policy_resource import TYPE_URL, Documents, encode_documents, version_of
from paymesh.server.policy_subscription import ControlPlane, PolicyCache, PolicySubscription

SERVICES = "services: [{name: a, versions: [{name: v1, endpoints: [{address: 10.0.0.1, port: 80}]}]}]\n"
ROUTES = "routes: [{name: one, match: {prefix: /a/}, operation: other, service: a}]\n"
DOCUMENTS: Documents = (("a.yaml", SERVICES), ("b.yaml", ROUTES))


@pytest.fixture
def cache(tmp_path: Path) -> PolicyCache:
    return PolicyCache(tmp_path / "cache", {})


def again(cache: PolicyCache) -> PolicyCache:
    """As the next process finds it."""
    return PolicyCache(cache.files.parent, {})


def file_of(cache: PolicyCache, name: str) -> Path:
    (found,) = cache.files.glob(f"*-{name}")
    return found


def test_what_was_accepted_is_there_after_a_restart(cache: PolicyCache) -> None:
    assert again(cache).documents() is None
    cache.accept(DOCUMENTS)
    assert again(cache).documents() == DOCUMENTS


def test_what_is_no_policy_changes_nothing(cache: PolicyCache) -> None:
    cache.accept(DOCUMENTS)
    with pytest.raises(PolicyErrors):
        cache.accept((("a.yaml", "routs: []\n"),))
    assert again(cache).documents() == DOCUMENTS


@pytest.mark.parametrize("text", [b"", ROUTES.encode()[:20], b"\xff\xfe"])
def test_a_file_that_a_power_cut_left_behind_is_not_used(cache: PolicyCache, text: bytes) -> None:
    cache.accept(DOCUMENTS)
    file_of(cache, "b.yaml").write_bytes(text)
    assert again(cache).documents() is None
    cache.accept(DOCUMENTS)
    assert again(cache).documents() == DOCUMENTS


def test_a_file_that_is_gone_is_missed(cache: PolicyCache) -> None:
    cache.accept(DOCUMENTS)
    file_of(cache, "b.yaml").unlink()
    assert again(cache).documents() is None


def test_a_stop_between_the_two_moves_loses_nothing(cache: PolicyCache) -> None:
    cache.accept(DOCUMENTS)
    cache.files.rename(cache.files.parent / "old")
    assert again(cache).documents() == DOCUMENTS


class OneAnswer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):  # type: ignore[misc]
    """Gives the policy to every stream that has not got it."""

    async def StreamAggregatedResources(  # noqa: N802
        self, requests: AsyncIterator[discovery_pb2.DiscoveryRequest], _context: object
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        version = version_of(DOCUMENTS)
        async for request in requests:
            if request.version_info != version:
                resource = any_pb2.Any(type_url=TYPE_URL, value=encode_documents(DOCUMENTS))
                yield discovery_pb2.DiscoveryResponse(
                    version_info=version, type_url=TYPE_URL, nonce=version, resources=[resource]
                )


async def test_an_error_nobody_thought_of_does_not_end_the_following(cache: PolicyCache) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(OneAnswer(), server)
    await server.start()
    subscription = PolicySubscription("ext_authz", ControlPlane(f"127.0.0.1:{port}"), cache)
    tries = 0

    async def in_force() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("this once")

    following = asyncio.create_task(subscription.run(in_force))
    try:
        async with asyncio.timeout(20):
            while subscription.version != version_of(DOCUMENTS):
                assert not following.done()
                await asyncio.sleep(0.02)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.stop(None)
    assert tries == 2
