"""Whatever a stranger sends, an answer comes back: a claim or a refusal, never an exception."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from paymesh.payments.credentials import alipay_v3, wechat_v3
from paymesh.payments.credentials.alipay_v2 import parse_china_time
from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim, decode_base64, is_nonce, parse_timestamp
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.mtls import certificate_sha256
from paymesh.payments.credentials.schemes import SCHEMES
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.request import Peer, RepeatedHeader, Request
from tests.unit.payments.credentials.keyring import NOW_S, Issued, Keyring
from tests.unit.payments.credentials.messages import KINDS, Kind

NAMES = (
    "authorization",
    "content-type",
    "content-digest",
    "content-length",
    "alipay-app-auth-token",
    "signature",
    "signature-input",
    *(f"wechatpay-{name}" for name in ("timestamp", "nonce", "signature", "serial", "signature-type")),
    *(f"paymesh-{name}" for name in ("key", "timestamp", "nonce", "signature")),
)
BEGINNINGS = (
    "WECHATPAY2-SHA256-RSA2048 ",
    "WECHATPAY2-SM2-WITH-SM3 ",
    "ALIPAY-SHA256withRSA ",
    "ALIPAY-SM2 ",
    "Bearer ",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=",
    "application/json",
    'sig1=("@method" "@query-param";name="a")',
    "sig1=:AAAA:",
    "sha-256=:",
    "1800000000",
    "0" * 64,
)
FRAGMENTS = st.sampled_from(
    [
        "&",
        "=",
        "%",
        "%zz",
        "+",
        ";",
        ",",
        '"',
        "\\",
        " ",
        "\n",
        "\0",
        ".",
        "é",
        "中",
        "sign=",
        "sign_type=RSA2",
        "AAAA",
        "=",
    ]
)
PIECES = st.lists(FRAGMENTS | st.text(max_size=8), max_size=8).map("".join)
TEXT = st.builds(lambda beginning, rest: beginning + rest, st.sampled_from(("", *BEGINNINGS)), PIECES)
BODIES = st.binary(max_size=64) | PIECES.map(str.encode) | PIECES.map(lambda text: f"--b\r\n{text}\r\n--b--".encode())
HEADERS = st.dictionaries(st.sampled_from(NAMES), st.lists(TEXT, min_size=1, max_size=2).map(tuple), max_size=6)
PEERS = st.none() | st.builds(Peer, st.sampled_from(["", "spiffe://", "CN=a"]) | TEXT, TEXT)
ANYTHING = st.builds(
    lambda method, path, query, headers, body, peer: Request(
        method, f"/{path}?{query}" if query else f"/{path}", headers, body, "id-1", scheme="https", peer=peer
    ),
    st.sampled_from(["GET", "POST", ""]) | st.text(max_size=4),
    st.text(max_size=6),
    PIECES,
    HEADERS,
    BODIES,
    PEERS,
)


async def answer(keyring: Keyring, route_name: str, sent: Request) -> None:
    route = keyring.policy.routes_by_name[route_name]
    scheme = SCHEMES[route.schemes[0]]
    if not scheme.recognises(sent):
        return
    try:
        claim = scheme.read(sent, route)
    except RepeatedHeader:
        claim = Denial(Reason.CREDENTIAL_INVALID, "repeated")
    assert isinstance(claim, Claim | Denial)
    result = await authenticate(scheme, Asked(sent, route, keyring.policy, PolicyKeys(), NOW_S))
    assert isinstance(result, Authenticated | Denial)
    assert isinstance(result, Denial) or isinstance(claim, Claim)


@settings(max_examples=400)
@given(sent=ANYTHING)
def test_any_request(keyring: Keyring, sent: Request) -> None:
    async def every_scheme() -> None:
        for scheme in SCHEMES:
            await answer(keyring, scheme, sent)

    asyncio.run(every_scheme())


def damaged(sent: Request) -> st.SearchStrategy[Request]:
    """A genuine message with some of its parts replaced by anything."""
    parts: dict[str, st.SearchStrategy[object]] = {
        "body": BODIES
        | st.tuples(st.integers(0, len(sent.body)), st.binary(max_size=3)).map(
            lambda cut: sent.body[: cut[0]] + cut[1] + sent.body[cut[0] + len(cut[1]) :]
        ),
        "target": PIECES.map(lambda query: f"{sent.path}?{query}"),
        "method": st.text(max_size=4),
    }
    headers = st.dictionaries(
        st.sampled_from(sorted({*sent.headers, "content-type"})), st.lists(TEXT, max_size=2).map(tuple), max_size=2
    )

    def put(changes: Mapping[str, object], others: Mapping[str, tuple[str, ...]]) -> Request:
        found = {name: values for name, values in {**sent.headers, **others}.items() if values}
        return replace(sent, **changes, headers=found)  # type: ignore[arg-type]

    return st.builds(put, st.fixed_dictionaries({}, optional=parts), headers)


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_message(keyring: Keyring, name: str) -> None:
    kind: Kind = KINDS[name]
    sent = kind.make(keyring, keyring.merchant, "1")

    @settings(max_examples=40)
    @given(found=damaged(sent))
    def answered(found: Request) -> None:
        asyncio.run(answer(keyring, kind.route, found))

    answered()


@given(text=TEXT)
def test_the_parsers_of_a_header(text: str) -> None:
    for rest in (text, *(beginning + text for beginning in BEGINNINGS[:5])):
        for parse in (wechat_v3.parse_authorization, alipay_v3.parse_authorization):
            parse(rest)


@given(text=st.text(max_size=40) | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9 ]{2} [0-9: ]{8}\Z"))
def test_the_readers_of_a_field(text: str) -> None:
    parsed = parse_china_time(text)
    assert parsed is None or isinstance(parsed, int)
    stamp = parse_timestamp(text)
    assert stamp is None or 0 <= stamp < 10**11
    decoded = decode_base64(text)
    assert decoded is None or base64.b64encode(decoded).decode() == text
    assert is_nonce(text) in (True, False)


@given(raw=st.binary(max_size=80))
def test_every_signature_has_one_base64(raw: bytes) -> None:
    assert decode_base64(base64.b64encode(raw).decode()) == raw


# What `cryptography` says of a serial below one; a later version will refuse it.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300)
@given(damage=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_certificate(keyring: Keyring, damage: list[tuple[int, int]]) -> None:
    """Its encoding changed anywhere: versions, dates, names and keys that nobody makes."""
    issued: Issued = keyring.provider
    der = bytearray(issued.certificate.public_bytes(Encoding.DER))
    for place, value in damage:
        der[place % len(der)] = value
    encoded = base64.encodebytes(bytes(der)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{encoded}-----END CERTIFICATE-----\n"
    certificate_sha256(pem)
    found = keyring.policy.certificates["unionpay"].key_of(pem.encode())
    assert found is None or bytes(der) == issued.certificate.public_bytes(Encoding.DER)


def test_a_certificate_of_no_version(keyring: Keyring) -> None:
    der = keyring.provider.certificate.public_bytes(Encoding.DER)
    version_3 = bytes.fromhex("a003020102")
    assert der.count(version_3) == 1
    for version in (b"\x03", b"\x09", b"\xff"):
        broken = base64.encodebytes(der.replace(version_3, version_3[:-1] + version)).decode()
        pem = f"-----BEGIN CERTIFICATE-----\n{broken}-----END CERTIFICATE-----\n"
        assert certificate_sha256(pem) is None
        assert keyring.policy.certificates["unionpay"].key_of(pem.encode()) is None
