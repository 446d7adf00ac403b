"""Heads written anew by the real Envoy: what the service sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data_plane.forwarding_site import Service, hosts, running_site

pytestmark = pytest.mark.data_plane


async def test_the_service_sees_what_the_policy_says(tmp_path: Path) -> None:
    async with Service().running() as service:
        policy = f"""
services: [{{name: pages, {hosts(service.port)}}}]
routes:
  - name: shop
    match: {{prefix: /shop/}}
    operation: other
    service: pages
    request_headers_to_add: [{{name: x-tenant, value: "50% %REQ(X-OTHER)%"}}]
    request_headers_to_remove: [authorization]
    prefix_rewrite: /legacy/
    host_rewrite: pages.internal
"""
        async with running_site(tmp_path, policy) as site:
            sent = {"x-tenant": "mine", "authorization": "secret", "x-other": "kept"}
            assert (await site.get("/shop/a/b?c=/shop/", sent)).status == 200
            (headers,) = service.headers
            seen = {name.lower(): value for name, value in headers.items()}
            assert service.paths == ["/legacy/a/b?c=/shop/"]
            assert (seen["x-tenant"], seen["x-other"], seen["host"]) == ("50% %REQ(X-OTHER)%", "kept", "pages.internal")
            assert "authorization" not in seen
            # What Envoy answers itself stays in the words of the gateway.
            await service.stop()
            refused = await site.get("/shop/a")
            assert (refused.status, refused.reason) == (503, "unavailable")
