"""Which key verifies when, what a caller learns of a refusal, and what only the log learns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pytest

from ext_authz.check_context import CheckContext, Decision
from ext_authz.wire import refuse
from paymesh.payments.credentials.authenticate import MAX_SHOWN_CHARS, authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.credentials.verifiers import Ed25519, HmacSha256Secret, ProvenInTls, RsaSha256, decoys
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, CredentialKey, KeyKind, KeyRef, Verifier
from paymesh.payments.refusals import Refusal
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret
from tests.unit.payments.credentials.keyring import NOW_S, YEAR_S, Keyring, issue, new_key
from tests.unit.payments.credentials.messages import KINDS, SPIFFE, Kind
from tests.unit.payments.credentials.mutations import field_of, header, parameter

MTLS = KeyRef(KeyKind.MTLS, f"{SPIFFE}bookshop")
Keys = tuple[CredentialKey, ...]

BY_SIGNATURE = {name: kind for name, kind in KINDS.items() if kind.route != "mtls"}
MERCHANTS = {
    name: kind for name, kind in BY_SIGNATURE.items() if kind.route != "jwt" and "notification" not in kind.route
}


def genuine(keyring: Keyring, name: str) -> Request:
    return KINDS[name].make(keyring, keyring.merchant, "1")


def claim_of(keyring: Keyring, kind: Kind, sent: Request) -> Claim:
    route = keyring.policy.routes_by_name[kind.route]
    claim = SCHEMES[route.schemes[0]].read(sent, route)
    assert isinstance(claim, Claim)
    return claim


def with_keys(keyring: Keyring, kind: Kind, change: Callable[[Keys], Keys]) -> Keyring:
    """The keyring with other keys under the name that the kind's message uses."""
    ref = claim_of(keyring, kind, kind.make(keyring, keyring.merchant, "1")).key
    keys = keyring.policy.keys
    return replace(keyring, policy=replace(keyring.policy, keys={**keys, ref: change(keys[ref])}))


def _all(keys: Keys, verifier: Verifier) -> Keys:
    return tuple(replace(key, verifier=verifier) for key in keys)


# -- several keys, and their dates -------------------------------------------------------------------------------------

IN_POLICY = [name for name, kind in BY_SIGNATURE.items() if kind.route not in ("jwt", "unionpay_notification")]


@pytest.mark.parametrize("name", IN_POLICY)
async def test_several_keys_are_valid_at_once(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    sent = genuine(keyring, name)
    algorithm = claim_of(keyring, kind, sent).algorithm or Algorithm.ED25519
    stranger = replace(keyring.policy.keys[MTLS][0], id="stranger", verifier=decoys()[algorithm])
    for before, after in ((1, 0), (0, 1), (3, 3)):
        around = (stranger,) * before, (stranger,) * after
        many = with_keys(keyring, kind, lambda keys, around=around: (*around[0], *keys, *around[1]))  # type: ignore[misc]
        assert isinstance(await many.verify(kind.route, sent), Authenticated)
    none = with_keys(keyring, kind, lambda keys: (stranger,) * 3)
    result = await none.verify(kind.route, sent)
    assert isinstance(result, Denial)
    assert result.detail == "signature mismatch (tried 3 keys)"


@pytest.mark.parametrize("name", IN_POLICY)
async def test_a_key_is_valid_up_to_both_its_edges(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    sent = genuine(keyring, name)

    async def dated(from_s: int | None, until_s: int | None) -> Authenticated | Denial:
        found = with_keys(
            keyring,
            kind,
            lambda keys: tuple(replace(key, valid_from_s=from_s, valid_until_s=until_s) for key in keys),
        )
        return await found.verify(kind.route, sent)

    for from_s, until_s in ((None, None), (NOW_S, None), (None, NOW_S), (NOW_S, NOW_S)):
        assert isinstance(await dated(from_s, until_s), Authenticated), (from_s, until_s)
    for from_s, until_s in ((NOW_S + 1, None), (None, NOW_S - 1), (NOW_S + 1, NOW_S - 1)):
        result = await dated(from_s, until_s)
        assert isinstance(result, Denial), (from_s, until_s)
        assert (result.reason, result.detail) == (Reason.CREDENTIAL_INVALID, "the key is not valid at this time")


async def test_an_old_and_a_new_key_while_they_change(keyring: Keyring) -> None:
    kind = KINDS["hmac"]
    sent = genuine(keyring, "hmac")
    old = HmacSha256Secret(Secret(b"x" * 32))
    changing = with_keys(
        keyring,
        kind,
        lambda keys: (
            replace(keys[0], id="old", verifier=old, valid_until_s=NOW_S + 60),
            replace(keys[0], id="new", valid_from_s=NOW_S - 60),
        ),
    )
    result = await changing.verify(kind.route, sent)
    assert isinstance(result, Authenticated)
    assert result.key_id == "new"
    too_early = with_keys(changing, kind, lambda keys: (keys[0], replace(keys[1], valid_from_s=NOW_S + 1)))
    refused = await too_early.verify(kind.route, sent)
    assert isinstance(refused, Denial)
    assert refused.detail == "signature mismatch (tried 1 key)"


@pytest.mark.parametrize("name", ["alipay_v2 POST form utf-8 certificate", "alipay_v3 by certificate", "unionpay 01"])
async def test_a_certificates_own_dates_hold(keyring: Keyring, name: str) -> None:
    sent, route = genuine(keyring, name), KINDS[name].route
    for now_s, passes in (
        (NOW_S - YEAR_S, True),
        (NOW_S - YEAR_S - 1, False),
        (NOW_S + YEAR_S, True),
        (NOW_S + YEAR_S + 1, False),
    ):
        result = await keyring.verify(route, sent, now_s)
        if passes or isinstance(result, Authenticated):
            # The message's own time is the replay step's question; an expiry that it names itself is not.
            assert isinstance(result, Authenticated) or result.reason is Reason.TIMESTAMP_EXPIRED, (now_s, result)
            assert passes
        else:
            assert result.detail == "the key is not valid at this time"


@pytest.mark.parametrize("edge", ["from_s", "until_s"])
async def test_the_dates_of_a_presented_certificates_chain_hold(keyring: Keyring, edge: str) -> None:
    kind = KINDS["unionpay_notification"]
    when = NOW_S - 10 if edge == "from_s" else NOW_S + 10
    short = issue("041@Z12@00040000:UNIONPAY", new_key(), keyring.authority, **{edge: when})
    sent = kind.make(replace(keyring, provider=short), keyring.merchant, "1")
    assert isinstance(await keyring.verify(kind.route, sent, when), Authenticated)
    result = await keyring.verify(kind.route, sent, when + (-1 if edge == "from_s" else 1))
    assert isinstance(result, Denial)
    assert result.detail == "the key is not valid at this time"


async def test_a_key_of_another_algorithm_is_never_tried(keyring: Keyring) -> None:
    kind = KINDS["hmac"]
    sent = genuine(keyring, "hmac")
    for verifier in (
        RsaSha256(keyring.merchant.rsa.public_key()),
        ProvenInTls(),
        Ed25519(keyring.merchant.edwards.public_key()),
    ):
        other = with_keys(keyring, kind, partial(_all, verifier=verifier))
        result = await other.verify(kind.route, sent)
        assert isinstance(result, Denial)
        assert result.detail == "the key is of another algorithm"


# -- what a caller learns ----------------------------------------------------------------------------------------------


def as_sent(keyring: Keyring, kind: Kind, sent: Request, denial: Denial) -> Refusal:
    """The refusal's bytes as the caller receives them."""
    context = CheckContext(sent, keyring.policy, NOW_S, 0, keyring.policy.routes_by_name[kind.route])
    return refuse(Decision(context, denial, ()), denial)


def of_nobody(name: str, sent: Request) -> Request:
    """The message under a key's name that nobody has."""
    places: Mapping[str, Callable[[], Request]] = {
        "wechat_v3": lambda: field_of("mchid").write(sent, ["1900009999"]),
        "wechat_v3_notification": lambda: header("wechatpay-serial").write(sent, ["PUB_KEY_ID_9"]),
        "alipay_v2": lambda: parameter("app_id").write(sent, ["2021000000009999"]),
        "alipay_v3": lambda: field_of("app_id").write(sent, ["2021000000009999"]),
        "unionpay": lambda: parameter("merId").write(sent, ["777290058119999"]),
        "hmac": lambda: header("paymesh-key").write(sent, ["nobody-2026"]),
        "http_signature": lambda: header("signature-input").write(
            sent, [sent.headers["signature-input"][0].replace("bookshop", "nobodies")]
        ),
    }
    return places[KINDS[name].route]()


NAMED = [name for name in IN_POLICY if KINDS[name].route != "alipay_notification"]


@pytest.mark.parametrize("name", NAMED)
async def test_an_unknown_key_and_a_wrong_signature_are_one_refusal(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    sent = genuine(keyring, name)
    forged = kind.make(keyring, keyring.stranger, "1")
    late = with_keys(keyring, kind, lambda keys: tuple(replace(key, valid_until_s=NOW_S - 1) for key in keys))
    denials = [
        await keyring.verify(kind.route, of_nobody(name, sent)),
        await keyring.verify(kind.route, forged),
        await late.verify(kind.route, sent),
    ]
    assert all(isinstance(denial, Denial) for denial in denials), denials
    refused = [denial for denial in denials if isinstance(denial, Denial)]
    assert {denial.reason for denial in refused} == {Reason.CREDENTIAL_INVALID}
    assert len({denial.detail for denial in refused}) == 3, "the log tells them apart"
    answers = {as_sent(keyring, kind, sent, denial) for denial in refused}
    assert len(answers) == 1, "the caller does not"


async def test_unknown_tokens_and_certificates_are_the_same_refusal_too(keyring: Keyring) -> None:
    for name in ("jwt", "unionpay_notification", "alipay_notification utf-8"):
        kind = KINDS[name]
        sent = genuine(keyring, name)
        forged = kind.make(keyring, keyring.stranger, "1")
        unknown = replace(keyring, policy=replace(keyring.policy, keys={}, jwt_issuers={}, certificates={}))
        one, other = await keyring.verify(kind.route, forged), await unknown.verify(kind.route, sent)
        assert isinstance(one, Denial), name
        assert isinstance(other, Denial), name
        assert (one.reason, other.reason) == (Reason.CREDENTIAL_INVALID,) * 2
        assert one.detail != other.detail
        assert as_sent(keyring, kind, sent, one) == as_sent(keyring, kind, sent, other)


# -- a sandbox merchant's hint -----------------------------------------------------------------------------------------


def sandboxed(keyring: Keyring) -> Keyring:
    def sandbox(key: CredentialKey) -> CredentialKey:
        return key if key.merchant is None else replace(key, merchant=replace(key.merchant, sandbox=True))

    keys = {ref: tuple(map(sandbox, found)) for ref, found in keyring.policy.keys.items()}
    return replace(keyring, policy=replace(keyring.policy, keys=keys))


@pytest.mark.parametrize("name", MERCHANTS)
async def test_a_sandbox_merchant_is_shown_the_text_that_it_should_have_signed(keyring: Keyring, name: str) -> None:
    kind = KINDS[name]
    forged = kind.make(keyring, keyring.stranger, "1")
    signed = keyring.signed(kind.route, forged)
    assert isinstance(signed, bytes)
    result = await sandboxed(keyring).verify(kind.route, forged)
    assert isinstance(result, Denial)
    assert result.hint == signed.decode("utf-8", "replace")
    assert "signature mismatch" in result.detail
    claim = claim_of(keyring, kind, forged)
    for secret in (keyring.merchant.secret, keyring.stranger.secret):
        for text in (secret.decode(), hashlib.sha256(secret).hexdigest(), secret.hex()):
            assert text not in result.hint
            assert text not in result.detail
    assert claim.signature.hex() not in result.hint
    assert result.hint not in repr(result)
    in_earnest = await keyring.verify(kind.route, forged)
    assert isinstance(in_earnest, Denial)
    assert in_earnest.hint is None


async def test_nobody_is_shown_anything(keyring: Keyring) -> None:
    for name in NAMED:
        result = await sandboxed(keyring).verify(KINDS[name].route, of_nobody(name, genuine(keyring, name)))
        assert isinstance(result, Denial)
        assert result.hint is None


async def test_a_long_text_is_cut(keyring: Keyring) -> None:
    forged = replace(KINDS["alipay_v3 POST"].make(keyring, keyring.stranger, "1"), body=b'{"x":"%s"}' % (b"x" * 3000))
    signed = keyring.signed("alipay_v3", forged)
    result = await sandboxed(keyring).verify("alipay_v3", forged)
    assert isinstance(signed, bytes)
    assert isinstance(result, Denial)
    assert result.hint == signed.decode()[:MAX_SHOWN_CHARS] + "..."


# -- names -------------------------------------------------------------------------------------------------------------


async def test_a_key_of_one_kind_is_none_of_another(keyring: Keyring) -> None:
    """A secret known as `bookshop-2026` in one name space is looked for in no other."""
    kind = KINDS["hmac"]
    sent = genuine(keyring, "hmac")
    ref = KeyRef(KeyKind.HMAC, "bookshop-2026")
    moved = {KeyRef(other, ref.name): keyring.policy.keys[ref] for other in KeyKind if other is not KeyKind.HMAC}
    elsewhere = replace(keyring, policy=replace(keyring.policy, keys=moved))
    result = await elsewhere.verify(kind.route, sent)
    assert isinstance(result, Denial)
    assert result.detail == "unknown key"


async def test_a_nonce_of_one_key_is_none_of_another(keyring: Keyring) -> None:
    kind = KINDS["hmac"]
    sent = genuine(keyring, "hmac")
    result = await keyring.verify(kind.route, sent)
    assert isinstance(result, Authenticated)
    route = keyring.policy.routes_by_name[kind.route]
    claim = claim_of(keyring, kind, sent)
    scheme = SCHEMES[route.schemes[0]]
    asked = Asked(sent, route, keyring.policy, PolicyKeys(), NOW_S)
    assert await authenticate(scheme, asked) == result
    key = keyring.policy.keys[claim.key][0]
    found = set()
    for name, nonce in (("a", "b:c"), ("a:b", "c"), ("a", "b"), ("1:a", "b")):
        made = await scheme.accept(replace(claim, key=KeyRef(KeyKind.HMAC, name), nonce=nonce), key, asked)
        assert isinstance(made, Authenticated)
        found.add(made.nonce)
    assert len(found) == 4
