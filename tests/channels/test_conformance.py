"""Every adapter of the registry passes the suite, against its provider's simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paymesh.payments.adapters.registry import ADAPTERS
from tests.channels.channels import CHANNELS
from tests.channels.harness import Channel, Provider, running
from tests.channels.suite import Conformance


@pytest.fixture(scope="session", params=sorted(ADAPTERS))
def channel(request: pytest.FixtureRequest) -> Channel:
    """An adapter without an entry fails here: nothing is registered that the suite has not seen."""
    return CHANNELS[request.param]


@pytest.fixture
async def provider(channel: Channel, demo_keys: Path) -> AsyncIterator[Provider]:
    async with running(channel, demo_keys) as found:
        yield found


class TestRegistered(Conformance):
    pass
