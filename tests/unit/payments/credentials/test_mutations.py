"""Every scheme against systematic changes of a genuine message: refused, or provably the same message."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from paymesh.payments.credentials.claim import Authenticated
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.request import Request
from tests.unit.payments.credentials.keyring import Keyring
from tests.unit.payments.credentials.messages import KINDS, Kind, all_exchanged
from tests.unit.payments.credentials.mutations import (
    Mutant,
    body_mutants,
    field_list_mutants,
    form_mutants,
    header,
    line_mutants,
    signature_mutants,
    text_mutants,
)

REFUSALS = frozenset(
    {
        Reason.CREDENTIAL_MISSING,
        Reason.CREDENTIAL_INVALID,
        Reason.CREDENTIAL_UNSUPPORTED,
        Reason.BODY_MALFORMED,
        Reason.BODY_DUPLICATE_KEY,
        Reason.CONTENT_UNSUPPORTED,
        Reason.TIMESTAMP_EXPIRED,
    }
)

PUBLIC = frozenset({"WECHATPAY2-SHA256-RSA2048", "RSA2", "utf-8", "gbk"})
"""Names of a protocol, which a refusal's detail may say."""


def mutants(kind: Kind, keyring: Keyring, request: Request) -> Iterator[Mutant]:
    for slot in kind.slots:
        yield from text_mutants(request, slot)
    yield from all_exchanged(kind, request)
    if kind.signature is not None:
        yield from signature_mutants(request, kind.signature)
        for label, signer, order in (("another message's", keyring.merchant, "2"), ("another's", keyring.other, "1")):
            stolen = kind.signature.read(kind.make(keyring, signer, order))
            yield Mutant(f"signature: {label}", kind.signature.write(request, [stolen]))
    if kind.fields:
        yield from field_list_mutants(request)
    if kind.form:
        yield from form_mutants(request)
    yield from line_mutants(request)
    yield from body_mutants(request)
    for name in ("content-type", "content-encoding", "content-length", "transfer-encoding", "authorization"):
        if name not in request.headers:
            yield Mutant(f"header {name} added", header(name).write(request, ["x"]))
            yield Mutant(f"header {name} added twice", header(name).write(request, ["x", "y"]))
    if kind.more is not None:
        yield from kind.more(keyring, request)


def believed(kind: Kind, caller: Authenticated) -> list[object]:
    """What the gateway goes on with. Which URL a form names decides nothing, and its text may be cut in several."""
    document = caller.document
    if kind.form:
        assert isinstance(document, dict)
        document = {name: document.get(name) for name in kind.decides}
    return [caller.merchant, caller.timestamp_s, caller.nonce, caller.proves, caller.scopes, document]


def same(kind: Kind, one: Request, changed: Request) -> bool:
    try:
        return kind.meaning(changed) == kind.meaning(one)
    except Exception:
        return False


@pytest.mark.parametrize("name", KINDS)
def test_a_changed_message_is_refused_or_the_same(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    request = kind.make(keyring, keyring.merchant, "1")
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    values = {slot.read(request) for slot in kind.slots if slot.name != "header content-type"} - PUBLIC

    async def judge() -> None:
        genuine = await keyring.verify(kind.route, request)
        assert isinstance(genuine, Authenticated), genuine
        assert genuine.merchant.id == "bookshop"
        for mutant in mutants(kind, keyring, request):
            if mutant.request == request:
                continue
            result = await keyring.verify(kind.route, mutant.request)
            if isinstance(result, Denial):
                counts["refused"] += 1
                if result.reason not in REFUSALS or any(len(value) > 3 and value in result.detail for value in values):
                    wrong.append(f"{mutant.label}: {result}")
                continue
            counts["same"] += 1
            if mutant.label.startswith("signature:"):
                # One message, one spelling of its signature: logs and stores compare them.
                wrong.append(f"{mutant.label}: passes")
            elif believed(kind, result) != believed(kind, genuine):
                wrong.append(f"{mutant.label}: passes, and says something else")
            elif not same(kind, request, mutant.request):
                wrong.append(f"{mutant.label}: passes, and is another message")

    asyncio.run(judge())
    assert not wrong, f"{len(wrong)} of {counts}\n" + "\n".join(wrong)
    assert counts.total() >= kind.mutants, counts
    assert counts["same"] >= kind.pass_as_same, counts


@pytest.mark.parametrize("name", KINDS)
async def test_another_key_signs_for_nobody_else(keyring: Keyring, name: str) -> None:
    """A correct signature, by another merchant's key or by a stranger's, under this merchant's name."""
    kind = KINDS[name]
    for signer in (keyring.other, keyring.stranger):
        result = await keyring.verify(kind.route, kind.make(keyring, signer, "1"))
        assert isinstance(result, Denial), signer
        assert result.reason is Reason.CREDENTIAL_INVALID


@pytest.mark.parametrize("name", KINDS)
async def test_a_message_of_one_scheme_says_nothing_to_another(keyring: Keyring, name: str) -> None:
    sent = KINDS[name].make(keyring, keyring.merchant, "1")
    for route in {kind.route for kind in KINDS.values()} - {KINDS[name].route}:
        assert isinstance(await keyring.verify(route, sent), Denial), route


BY_HEADER = ("wechat_v3", "wechat_v3_notification", "alipay_v3", "hmac", "http_signature", "jwt", "mtls")
"""Forms are all alike before they are read."""


@pytest.mark.parametrize("name", KINDS)
def test_a_scheme_recognises_its_own_messages_and_nobody_elses(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    sent = kind.make(keyring, keyring.merchant, "1")
    recognised = {scheme for scheme in SCHEMES if SCHEMES[scheme].recognises(sent)}
    assert kind.route in recognised
    assert recognised & set(BY_HEADER) == {kind.route} & set(BY_HEADER)


def test_every_scheme_has_its_messages() -> None:
    assert {kind.route for kind in KINDS.values()} == set(SCHEMES)
