"""Written credentials become keys: under which names, with which dates, and what may not be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from paymesh.cli.demo.alipay_signing import cert_sn
from paymesh.payments.credentials.verifiers import RsaSha256, supports_sm3
from paymesh.payments.policy.callers import Algorithm, KeyKind, KeyRef
from paymesh.payments.policy.compile_credentials import alipay_cert_sn, normalize_serial
from paymesh.payments.policy.compiled import Policy, Protocol
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors
from tests.unit.payments.credentials.keyring import NOW_S, Issued, issue, new_key, public_pem

Load = Callable[..., Policy]
YEARS = (NOW_S - 1000, NOW_S + 1000)


@pytest.fixture(scope="module")
def issued() -> Issued:
    return issue("shop", new_key(), from_s=YEARS[0], until_s=YEARS[1], serial=0x0ABCDEF)


@pytest.fixture
def load(tmp_path: Path, issued: Issued) -> Load:
    """A policy of one merchant with these credentials, and whatever else is written."""
    (tmp_path / "shop.crt").write_text(issued.pem)
    (tmp_path / "shop_pub.pem").write_text(public_pem(issued.key))
    (tmp_path / "shop.pem").write_bytes(issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "secret.key").write_bytes(b"s" * 32 + b"\n")

    def loaded(*credentials: str, more: str = "") -> Policy:
        lines = ["merchants:", "  - id: shop", "    credentials:", *(f"      - {{{one}}}" for one in credentials)]
        (tmp_path / "policy.yaml").write_text("\n".join([*(lines if credentials else ()), more, ""]))
        return load_policy([tmp_path / "policy.yaml"], {})

    return loaded


def problems(load: Load, *credentials: str, more: str = "") -> list[str]:
    with pytest.raises(PolicyErrors) as caught:
        load(*credentials, more=more)
    return [problem.message for problem in caught.value.problems]


# -- names -------------------------------------------------------------------------------------------------------------

SERIAL = "ABCDEF"


def test_a_certificate_names_its_key_as_each_provider_does(load: Load, issued: Issued) -> None:
    policy = load(
        'scheme: wechat_v3, mchid: "19", public_key: {file: shop.crt}',
        'scheme: alipay, app_id: "20", seller_id: "2088", public_key: {file: shop.crt}',
        'scheme: unionpay, mer_id: "77", certificate: {file: shop.crt}',
    )
    alipay_serial = cert_sn(issued.pem.encode())
    assert set(policy.keys) == {
        KeyRef(KeyKind.WECHAT, f"19/{SERIAL}"),
        KeyRef(KeyKind.ALIPAY, f"20/{alipay_serial}"),
        KeyRef(KeyKind.UNIONPAY, f"77/{0xABCDEF}"),
    }
    assert {ref for ref in policy.identities if ref.kind is not KeyKind.WECHAT} == {
        KeyRef(KeyKind.MCHID, "19"),
        KeyRef(KeyKind.APP_ID, "20"),
        KeyRef(KeyKind.MER_ID, "77"),
    }
    for ref, (key,) in policy.keys.items():
        assert isinstance(key.verifier, RsaSha256)
        assert key.merchant is policy.merchants["shop"]
        assert (key.valid_from_s, key.valid_until_s) == YEARS, ref
    (alipay,) = policy.keys[KeyRef(KeyKind.ALIPAY, f"20/{alipay_serial}")]
    assert alipay.proves == {"app_id": "20", "seller_id": "2088"}


def test_names_that_are_given_win(load: Load) -> None:
    policy = load(
        'scheme: wechat_v3, mchid: "19", serial_no: "00ff", public_key: {file: shop.crt}',
        'scheme: alipay, app_id: "20", app_cert_sn: given, public_key: {file: shop.crt}',
        'scheme: unionpay, mer_id: "77", cert_id: "5", certificate: {file: shop.crt}',
    )
    assert {ref.name for ref in policy.keys} == {"19/FF", "20/given", "77/5"}


def test_a_plain_key_of_alipay_is_found_by_the_application_alone(load: Load) -> None:
    policy = load(
        'scheme: alipay, app_id: "20", public_key: {file: shop_pub.pem}',
        'scheme: alipay, app_id: "20", public_key: {file: shop.crt}',
    )
    assert KeyRef(KeyKind.ALIPAY, "20") in policy.keys
    assert len(policy.keys) == 2
    (key,) = policy.keys[KeyRef(KeyKind.ALIPAY, "20")]
    assert (key.valid_from_s, key.valid_until_s) == (None, None)
    assert key.id.startswith("sha256:")


def test_a_secure_key_of_unionpay_has_a_name_a_method(load: Load) -> None:
    policy = load('scheme: unionpay, mer_id: "77", secure_key: {file: secret.key}')
    methods = [Algorithm.UNIONPAY_SHA256, *([Algorithm.UNIONPAY_SM3] if supports_sm3() else [])]
    assert {ref.name for ref in policy.keys} == {f"77/{method}" for method in methods}
    for ref, (key,) in policy.keys.items():
        assert ref.name == f"77/{key.verifier.algorithm}"
        assert "s" * 32 not in repr(key)
        assert hashlib.sha256(b"s" * 32).hexdigest()[:8] not in key.id


@pytest.mark.parametrize(
    ("serial", "normalized"),
    [("ab", "AB"), ("00AB", "AB"), ("0", "0"), ("000", "0"), ("PUB_KEY_ID_00a", "PUB_KEY_ID_00a")],
)
def test_serials(serial: str, normalized: str) -> None:
    assert normalize_serial(serial) == normalized


def test_the_serial_of_alipay_is_what_its_tools_compute(issued: Issued) -> None:
    assert (
        alipay_cert_sn(issued.certificate)
        == hashlib.md5(
            f"CN=shop,OU=throw-away,O=paymesh tests,C=CN{0xABCDEF}".encode(), usedforsecurity=False
        ).hexdigest()
    )


# -- dates -------------------------------------------------------------------------------------------------------------


def test_the_narrower_dates_hold(load: Load) -> None:
    within = 'valid_from: "2027-01-15T15:59:00+08:00", valid_until: "2027-01-15T16:01:00+08:00"'
    beyond = 'valid_from: "2000-01-01T00:00:00Z", valid_until: "2100-01-01T00:00:00Z"'
    wechat = [
        f'scheme: wechat_v3, mchid: "19", serial_no: "{number}", public_key: {{file: shop.crt}}' for number in "123"
    ]
    policy = load(f"{wechat[0]}, {within}", f"{wechat[1]}, {beyond}", wechat[2])
    dates = {ref.name: (key.valid_from_s, key.valid_until_s) for ref, (key,) in policy.keys.items()}
    assert dates == {"19/1": (NOW_S - 60, NOW_S + 60), "19/2": YEARS, "19/3": YEARS}


# -- several keys ------------------------------------------------------------------------------------------------------


def test_a_bounded_number_of_keys_is_tried(load: Load, tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.key").write_bytes(b"%d" % number * 16)
    keys = [f'scheme: unionpay, mer_id: "77", secure_key: {{file: {number}.key}}' for number in range(9)]
    policy = load(*keys[:8])
    assert len(policy.keys[KeyRef(KeyKind.UNIONPAY, f"77/{Algorithm.UNIONPAY_SHA256}")]) == 8
    found = problems(load, *keys)
    assert len(found) == 2 if supports_sm3() else 1
    assert all("more than 8 keys for 77/" in problem for problem in found)
    assert any("is given twice for 77/" in problem for problem in problems(load, keys[0], keys[0]))


@pytest.mark.parametrize(
    ("credential", "shortest"),
    [
        ("scheme: hmac, key_id: k, secret", 16),
        ('scheme: unionpay, mer_id: "77", secure_key', 16),
        ("scheme: http_signature, key_id: k, algorithm: hmac-sha256, secret", 32),
    ],
)
def test_short_secrets(load: Load, tmp_path: Path, credential: str, shortest: int) -> None:
    (tmp_path / "short.key").write_bytes(b"x" * (shortest - 1))
    (tmp_path / "long.key").write_bytes(b"x" * shortest)
    assert problems(load, f"{credential}: {{file: short.key}}") == [
        f"the secret has {shortest - 1} bytes; at least {shortest} are required"
    ]
    assert load(f"{credential}: {{file: long.key}}").keys


# -- providers ---------------------------------------------------------------------------------------------------------

TRADE = "services: [{name: trade, versions: [{name: v1, endpoints: [{address: 127.0.0.1, port: 1}]}]}]"


def channel(notifications: str) -> str:
    return f"channels:\n  - {{name: paid, service: trade, notifications: {{{notifications}}}}}\n{TRADE}"


def test_the_apiv3_key_is_an_aes_256_key(load: Load, tmp_path: Path) -> None:
    platform = "scheme: wechat_v3_notification, platform_keys: [{serial_no: AB, public_key: {file: shop_pub.pem}}]"
    (tmp_path / "short.key").write_bytes(b"x" * 31)
    assert problems(load, more=channel(f"{platform}, apiv3_key: {{file: short.key}}")) == [
        "the secret has 31 bytes, not 32"
    ]
    policy = load(more=channel(f"{platform}, apiv3_key: {{file: secret.key}}"))
    (key,) = policy.keys[KeyRef(KeyKind.PROVIDER, "paid/AB")]
    assert key.merchant is None


def test_several_platform_keys_of_alipay(load: Load, tmp_path: Path) -> None:
    (tmp_path / "next_pub.pem").write_text(public_pem(new_key()))
    old = '{public_key: {file: shop_pub.pem}, valid_until: "2027-01-15T16:00:00+08:00"}'
    new = "{public_key: {file: next_pub.pem}}"
    policy = load(more=channel(f"scheme: alipay_notification, platform_keys: [{old}, {new}]"))
    found = policy.keys[KeyRef(KeyKind.PROVIDER, "paid")]
    assert [key.valid_until_s for key in found] == [NOW_S, None]


def test_the_authorities_of_unionpay(load: Load, tmp_path: Path, issued: Issued) -> None:
    root = issue("root", new_key())
    (tmp_path / "bundle.crt").write_text(f"comment\n{root.pem}\n{issued.pem}")
    policy = load(more=channel("scheme: unionpay_notification, authorities: {file: bundle.crt}"))
    trust = policy.certificates["paid"]
    assert trust.authorities == (root.certificate, issued.certificate)
    assert trust.common_name.fullmatch("041@8310000000083040@中国银联股份有限公司")
    assert not trust.common_name.fullmatch("041@8310000000083040@中国银联股份有限公司2@x")
    assert not trust.common_name.fullmatch("041@Z2026@merchant")
    assert not policy.keys, "its certificate comes with each message"


# -- the gateway's own -------------------------------------------------------------------------------------------------


def signers(*written: str) -> str:
    return "response_signers:\n" + "\n".join(f"  - {{{one}}}" for one in written)


def test_what_signs_our_answers(load: Load, issued: Issued) -> None:
    key = "private_key: {file: shop.pem}"
    policy = load(
        more=signers(f"protocol: alipay_v2, {key}", f"protocol: unionpay, {key}, certificate: {{file: shop.crt}}")
    )
    assert policy.signers.keys() == {Protocol.ALIPAY_V2, Protocol.UNIONPAY}
    assert policy.signers[Protocol.UNIONPAY].serial == str(0xABCDEF)
    assert "BEGIN PRIVATE" not in repr(policy)


def test_what_signs_answers_again_is_called_as_each_provider_does(load: Load, issued: Issued) -> None:
    key = "private_key: {file: shop.pem}, certificate: {file: shop.crt}"
    policy = load(more=signers(*(f"protocol: {name}, {key}" for name in ("wechat_v3", "alipay_v2", "alipay_v3"))))
    assert {protocol: signer.serial for protocol, signer in policy.signers.items()} == {
        Protocol.WECHAT_V3: SERIAL,
        Protocol.ALIPAY_V2: cert_sn(issued.pem.encode()),
        Protocol.ALIPAY_V3: cert_sn(issued.pem.encode()),
    }
    named = load(more=signers("protocol: wechat_v3, private_key: {file: shop.pem}, serial: PUB_KEY_ID_01"))
    assert named.signers[Protocol.WECHAT_V3].serial == "PUB_KEY_ID_01"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (
            "wechat_v3, private_key: {file: shop.pem}",
            "is required: a certificate's serial (hex) or PUB_KEY_ID_..., by which WeChat Pay's SDKs look for the key",
        ),
        (
            "wechat_v3, private_key: {file: shop.pem}, serial: shop",
            "must be a certificate's serial (hex) or PUB_KEY_ID_..., by which WeChat Pay's SDKs look for the key",
        ),
        ("unionpay, private_key: {file: shop.pem}", "is required: UnionPay's answers carry the certificate"),
        (
            "unionpay, private_key: {file: shop.pem}, certificate: {file: other.crt}",
            "is not the private key's",
        ),
        ("alipay_v2, private_key: {file: shop.crt}", "is not a PEM private key without password"),
        ("alipay_v2, private_key: {file: secret.key}", "is not a PEM private key without password"),
        (
            "alipay_v2, private_key: {file: weak.pem}",
            "is an RSA key of 1024 bits; at least 2048 are required",
        ),
    ],
)
def test_what_signs_nothing(load: Load, tmp_path: Path, issued: Issued, written: str, problem: str) -> None:
    (tmp_path / "other.crt").write_text(issue("other", new_key()).pem)
    weak = rsa.generate_private_key(65537, 1024)
    (tmp_path / "weak.pem").write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert problems(load, more=signers(f"protocol: {written}")) == [problem]


def test_one_signer_a_protocol(load: Load) -> None:
    twice = "protocol: alipay_v2, private_key: {file: shop.pem}"
    assert problems(load, more=signers(twice, twice)) == ["alipay_v2 has a signer already"]
