"""A provider to ask, a gateway that asks, and policies as an operator writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import TypeAdapter

from paymesh.payments.jose.key_source import KeySources
from paymesh.payments.policy.compile_users import compile_user_providers
from paymesh.payments.policy.findings import Findings
from paymesh.payments.policy.references import References
from paymesh.payments.policy.user_documents import UserProviderDocument
from paymesh.payments.policy.yaml_source import SourceTree
from paymesh.payments.users.identify import UserIdentifier
from paymesh.payments.users.providers import UserProvider
from paymesh.server.http_fetch import AiohttpFetch
from tests.unit.payments.users.idp import IdentityProvider, running

ADAPTER: TypeAdapter[object] = TypeAdapter(UserProviderDocument)
Compile = Callable[..., UserProvider]


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    async with running() as found:
        yield found


@pytest.fixture
async def identifier() -> AsyncIterator[UserIdentifier]:
    fetch = AiohttpFetch()
    sources = KeySources(fetch)
    found = UserIdentifier(fetch, sources)
    yield found
    await found.close()
    await sources.close()
    await fetch.aclose()


@pytest.fixture
def compiled() -> Compile:
    """A provider from its document; secrets are environment variables."""

    def build(environ: dict[str, str] | None = None, **document: object) -> UserProvider:
        findings = Findings(SourceTree(), References(environ or {}))
        parsed = ADAPTER.validate_python(document, context={"environ": environ or {}})
        found = compile_user_providers([parsed], findings)
        assert findings.problems == []
        return next(iter(found.values()))

    return build
