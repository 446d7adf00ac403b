"""HTTP message signatures: the RFC's own vectors, an independent client for every algorithm, and every change of a
genuine message, of which none may pass."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

import http_message_signatures as client
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.credentials.authenticate import authenticate
from paymesh.payments.credentials.claim import Asked, Authenticated, Claim
from paymesh.payments.credentials.directory import PolicyKeys
from paymesh.payments.credentials.http_message_signatures import (
    MAX_COMPONENTS,
    MAX_QUERY_PARAMETERS,
    WINDOW_S,
    HttpMessageSignatures,
    SignatureError,
    read_signature,
    signature_base,
)
from paymesh.payments.credentials.verifiers import EcdsaP256, Ed25519, HmacSha256Secret, RsaPssSha512
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.policy.callers import Algorithm, KeyKind, KeyRef, Scheme, Verifier
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import load_policy
from paymesh.payments.request import Request
from paymesh.payments.secrets import Secret

SCHEME = HttpMessageSignatures()
NOW_S = 1_800_000_000
NONCE = "b3k2pp5k7z-50gnwp.yemd"
BODY = b'{"order_no": "1", "amount": {"total": 100, "currency": "CNY"}}'
TARGET = "/v1/payments?channel=card&note=a%20b"
AUTHORITY = "pay.example.com"
COVERED = ("@method", "@target-uri", "@authority", "content-type", "content-digest", "idempotency-key")

# -- the RFC's vectors -------------------------------------------------------------------------------------------------


def rfc_key(text: str) -> object:
    return load_der_public_key(base64.b64decode(text))


def rfc_verifiers() -> dict[str, Verifier]:
    """The keys of RFC 9421 appendix B.1."""
    pss = rfc_key(
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+"
        "Lh1GH45x28Rw3Ry53mm+oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtCEcN2Z1FpWgc"
        "hwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4aOT9"
        "v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB"
    )
    ecc = rfc_key(
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdl"
        "dkkDXZCnTNnoXQ=="
    )
    edwards = rfc_key("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
    secret = base64.b64decode(
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    )
    assert isinstance(pss, rsa.RSAPublicKey)
    assert isinstance(ecc, ec.EllipticCurvePublicKey)
    assert isinstance(edwards, ed25519.Ed25519PublicKey)
    return {
        "test-key-rsa-pss": RsaPssSha512(pss),
        "test-key-ecc-p256": EcdsaP256(ecc),
        "test-key-ed25519": Ed25519(edwards),
        "test-shared-secret": HmacSha256Secret(Secret(secret)),
    }


def plain(method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
    """A request as Envoy tells of it: lower-case names, every line of a header."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return Request(method, slash + path, found, body, "id-1", scheme=scheme, authority=authority)


RFC_REQUEST = plain(
    "POST",
    "https://example.com/foo?param=Value&Pet=dog",
    [
        ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("Content-Type", "application/json"),
        (
            "Content-Digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("Content-Length", "18"),
    ],
    b'{"hello": "world"}',
)
B21 = (
    '();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"',
    (
        "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52"
        "eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA"
        "4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw"
        "9Q=="
    ),
)
B22 = (
    (
        '("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";'
        'tag="header-example"'
    ),
    (
        "LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8r"
        "tAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZ"
        "UJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjH"
        "Sw=="
    ),
)
B23 = (
    (
        '("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length")'
        ';created=1618884473;keyid="test-key-rsa-pss"'
    ),
    (
        "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN"
        "0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipw"
        "vKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4c"
        "UA=="
    ),
)
B25 = (
    '("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
    "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
)
B26 = (
    (
        '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;'
        'keyid="test-key-ed25519"'
    ),
    "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
)
B3 = (
    '("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256"',
    "xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==",
)
B3_REQUEST = plain(
    "POST",
    "https://service.internal.example/foo?param=Value&Pet=dog",
    [
        (
            "Client-Cert",
            (
                ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVk"
                "aWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8Y"
                "nXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNV"
                "HSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYm"
                "RjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5Xa"
                "rmPk0wmuydBVoU4hBVZ1yhk=:"
            ),
        )
    ],
)
B4 = (
    '("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519"',
    "ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==",
)
B4_URL = "https://example.org/demo?name1=Value1&Name2=value2"
B4_ACCEPT = [("Accept", "application/json"), ("Accept", "*/*")]


def verifies(sent: Request, vector: tuple[str, str]) -> bool:
    found = read_signature(f"sig={vector[0]}", f"sig=:{vector[1]}:")
    key_id = found.parameters["keyid"]
    assert isinstance(key_id, str)
    return rfc_verifiers()[key_id].verifies(found.signature, signature_base(sent, found))


@pytest.mark.parametrize("vector", [B21, B22, B23, B25, B26], ids=["B.2.1", "B.2.2", "B.2.3", "B.2.5", "B.2.6"])
def test_appendix_b2(vector: tuple[str, str]) -> None:
    assert verifies(RFC_REQUEST, vector)
    assert not verifies(RFC_REQUEST, (vector[0].replace("1618884473", "1618884474"), vector[1]))


def test_appendix_b3_ecdsa() -> None:
    assert verifies(B3_REQUEST, B3)
    assert not verifies(replace(B3_REQUEST, target="/foo?param=value&Pet=dog"), B3)


def test_appendix_b4_changes_that_a_signature_survives() -> None:
    """Uncovered query and headers changed, header lines joined or moved between others."""
    assert verifies(plain("GET", B4_URL, B4_ACCEPT), B4)
    assert verifies(plain("GET", f"{B4_URL}&param=added", [("Accept-Language", "en"), *B4_ACCEPT]), B4)
    assert verifies(plain("GET", B4_URL, [("Referer", "x"), ("Accept", "application/json, */*")]), B4)


def test_appendix_b4_changes_that_a_signature_does_not_survive() -> None:
    assert not verifies(plain("POST", B4_URL.replace(".org", ".com"), B4_ACCEPT), B4)
    assert not verifies(plain("GET", B4_URL, B4_ACCEPT[::-1]), B4)


def test_the_whole_base_of_appendix_b23() -> None:
    base = signature_base(RFC_REQUEST, read_signature(f"sig-b23={B23[0]}", f"sig-b23=:{B23[1]}:"))
    assert base.decode().split("\n") == [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@method": POST',
        '"@path": /foo',
        '"@query": ?param=Value&Pet=dog',
        '"@authority": example.com',
        '"content-type": application/json',
        '"content-digest": ' + RFC_REQUEST.headers["content-digest"][0],
        '"content-length": 18',
        '"@signature-params": ' + B23[0],
    ]


def lines(sent: Request, components: str) -> list[str]:
    found = read_signature(f"sig=({components})", "sig=:AAAA:")
    return signature_base(sent, found).decode().split("\n")[:-1]


def value_of(sent: Request, component: str) -> str:
    return lines(sent, component)[0].removeprefix(f"{component}: ")


def test_headers_of_section_2_1() -> None:
    sent = plain(
        "GET",
        "https://www.example.com/",
        [
            ("X-OWS-Header", "   Leading and trailing whitespace.\t  "),
            ("Cache-Control", "max-age=60"),
            ("Cache-Control", "   must-revalidate"),
            ("Example-Dict", " a=1,    b=2;x=1;y=2,   c=(a   b   c)"),
            ("X-Empty-Header", ""),
        ],
    )
    assert lines(sent, '"host" "x-ows-header" "cache-control" "example-dict" "x-empty-header"') == [
        '"host": www.example.com',
        '"x-ows-header": Leading and trailing whitespace.',
        '"cache-control": max-age=60, must-revalidate',
        '"example-dict": a=1,    b=2;x=1;y=2,   c=(a   b   c)',
        '"x-empty-header": ',
    ]


@pytest.mark.parametrize(
    ("url", "component", "value"),
    [
        ("https://www.example.com/path?param=value", '"@target-uri"', "https://www.example.com/path?param=value"),
        ("HTTPS://www.example.com/path", '"@scheme"', "https"),
        ("https://www.example.com/path?param=value", '"@request-target"', "/path?param=value"),
        ("https://www.example.com/path?param=value", '"@path"', "/path"),
        ("https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman", '"@query"', None),
        ("https://www.example.com/path?queryString", '"@query"', "?queryString"),
        ("https://www.example.com/path", '"@query"', "?"),
        ("https://www.example.com/path?", '"@query"', "?"),
        ("https://www.example.com/path?a?b", '"@query"', "?a?b"),
        ("https://WWW.Example.com/", '"@authority"', "www.example.com"),
        ("https://www.example.com:443/", '"@authority"', "www.example.com"),
        ("http://www.example.com:80/", '"@authority"', "www.example.com"),
        ("http://www.example.com:443/", '"@authority"', "www.example.com:443"),
        ("https://www.example.com:/", '"@authority"', "www.example.com"),
        ("https://[2001:DB8::1]:8443/", '"@authority"', "[2001:db8::1]:8443"),
        ("https://[2001:db8::1]/", '"@authority"', "[2001:db8::1]"),
    ],
)
def test_derived_components_of_section_2_2(url: str, component: str, value: str | None) -> None:
    assert value_of(plain("GET", url), component) == (value or "?param=value&foo=bar&baz=bat%2Dman")


def test_query_parameters_of_section_2_2_8() -> None:
    url = "https://www.example.com/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace"
    sent = plain("GET", f"{url}&fa%C3%A7ade%22%3A%20=something&qux=&~tilde=*-._~")
    names = ["var", "bar", "fa%C3%A7ade%22%3A%20", "qux", "%7Etilde"]
    values = ["this%20is%20a%20big%0Amultiline%20value", "with%20plus%20whitespace", "something", "", "*-._%7E"]
    covered = [f'"@query-param";name="{name}"' for name in names]
    assert lines(sent, " ".join(covered)) == [f"{name}: {value}" for name, value in zip(covered, values, strict=True)]


@pytest.mark.parametrize(
    "query", ["", "other=1", "a=1&a=2", "a=1&%61=1", "&".join(f"x{n}" for n in range(MAX_QUERY_PARAMETERS)) + "&a=1"]
)
def test_a_query_parameter_that_is_not_there_exactly_once(query: str) -> None:
    with pytest.raises(SignatureError):
        lines(plain("GET", f"https://e.com/?{query}"), '"@query-param";name="a"')


# -- an independent client ---------------------------------------------------------------------------------------------


@dataclass
class Message:
    """What the client library signs."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def as_envoy_tells(self) -> Request:
        return plain(self.method, self.url, self.headers.items(), self.body)


class Sha512Signer(client.HTTPMessageSigner):
    class _Digest(client.ContentDigest):
        algorithm = "sha-512"

    content_digest_class = _Digest


CLIENT_ALGORITHMS: dict[Algorithm, type[client.HTTPSignatureAlgorithm]] = {
    Algorithm.RSA_SHA256: client.algorithms.RSA_V1_5_SHA256,
    Algorithm.RSA_PSS_SHA512: client.algorithms.RSA_PSS_SHA512,
    Algorithm.ECDSA_P256_SHA256: client.algorithms.ECDSA_P256_SHA256,
    Algorithm.ED25519: client.algorithms.ED25519,
    Algorithm.HMAC_SHA256: client.algorithms.HMAC_SHA256,
}
ALGORITHMS = sorted(CLIENT_ALGORITHMS)


@dataclass(frozen=True)
class Merchant:
    keys: dict[str, client.SigningKey]

    def sign(
        self,
        message: Message,
        algorithm: Algorithm = Algorithm.ED25519,
        covered: tuple[str, ...] = COVERED,
        signer: type[client.HTTPMessageSigner] = client.HTTPMessageSigner,
        **options: object,
    ) -> Request:
        resolver = client.MappingKeyResolver(public_keys={}, private_keys=self.keys)
        signing = signer(signature_algorithm=CLIENT_ALGORITHMS[algorithm], key_resolver=resolver)
        chosen: dict[str, object] = {
            "created": datetime.datetime.fromtimestamp(NOW_S, datetime.UTC),
            "nonce": NONCE,
            "label": "sig1",
            "tag": "paymesh",
            "body": message.body or None,
        }
        signing.sign(message, key_id=f"key-{algorithm}", covered_component_ids=covered, **(chosen | options))  # type: ignore[arg-type]
        return message.as_envoy_tells()

    def sign_text(self, sent: Request, text: str, label: str = "sig1") -> Request:
        """A genuine Ed25519 signature with exactly this signature-input, whatever it leaves out."""
        key = self.keys[f"key-{Algorithm.ED25519}"]
        assert isinstance(key, ed25519.Ed25519PrivateKey)
        base = signature_base(sent, read_signature(f"{label}={text}", f"{label}=:AAAA:"))
        value = base64.b64encode(key.sign(base)).decode()
        return with_headers(sent, {"signature-input": f"{label}={text}", "signature": f"{label}=:{value}:"})


def payment(**headers: str) -> Message:
    return Message(
        "POST",
        f"https://{AUTHORITY}{TARGET}",
        {"Content-Type": "application/json", "Idempotency-Key": '"k1"', "Content-Length": str(len(BODY))} | headers,
        BODY,
    )


def query() -> Message:
    return Message("GET", f"https://{AUTHORITY}/v1/payments/1")


def with_headers(sent: Request, headers: dict[str, str | tuple[str, ...] | None]) -> Request:
    """The request with these headers; None removes one."""
    found = dict(sent.headers)
    for name, value in headers.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = (value,) if isinstance(value, str) else value
    return replace(sent, headers=found)


@pytest.fixture(scope="module")
def merchant() -> Merchant:
    key = rsa.generate_private_key(65537, 2048)
    return Merchant(
        {
            f"key-{Algorithm.RSA_SHA256}": key,
            f"key-{Algorithm.RSA_PSS_SHA512}": key,
            f"key-{Algorithm.ECDSA_P256_SHA256}": ec.generate_private_key(ec.SECP256R1()),
            f"key-{Algorithm.ED25519}": ed25519.Ed25519PrivateKey.generate(),
            f"key-{Algorithm.HMAC_SHA256}": b"a throw-away secret of forty bytes......",
        }
    )


@pytest.fixture(scope="module")
def policy(merchant: Merchant, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy as an operator writes it, with a key of every algorithm."""
    folder = tmp_path_factory.mktemp("policy")
    credentials = []
    for algorithm in ALGORITHMS:
        key = merchant.keys[f"key-{algorithm}"]
        credentials += ["      - scheme: http_signature", f"        key_id: key-{algorithm}"]
        credentials += [f"        algorithm: {algorithm}"]
        if isinstance(key, bytes):
            (folder / "secret.key").write_bytes(key)
            credentials += ["        secret: {file: secret.key}"]
        else:
            pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (folder / f"{algorithm}.pem").write_bytes(pem)
            credentials += [f"        public_key: {{file: {algorithm}.pem}}"]
    (folder / "policy.yaml").write_text(
        "\n".join(
            [
                "merchants:",
                "  - id: bookshop",
                "    credentials:",
                *credentials,
                "routes:",
                "  - name: everything",
                "    match: {prefix: /}",
                "    operation: other",
                "    schemes: [http_signature]",
                "    service: trade",
                "services:",
                "  - name: trade",
                "    versions: [{name: v1, weight: 100, endpoints: [{address: 127.0.0.1, port: 9201}]}]",
                "",
            ]
        )
    )
    return load_policy([folder], {})


Ask = Callable[..., Awaitable[Authenticated | Denial]]


@pytest.fixture
def ask(policy: Policy) -> Ask:
    """The gateway's own authentication, with the policy's keys."""

    async def asked(sent: Request, now_s: int = NOW_S) -> Authenticated | Denial:
        route = policy.routes_by_name["everything"]
        return await authenticate(SCHEME, Asked(sent, route, policy, PolicyKeys(), now_s))

    return asked


def refused(result: object, detail: str = "") -> bool:
    reason = Reason.TIMESTAMP_EXPIRED if detail == "expiry" else Reason.CREDENTIAL_INVALID
    return isinstance(result, Denial) and result.reason is reason and detail in result.detail


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("include_alg", [True, False])
async def test_accepted_with_every_algorithm(
    merchant: Merchant, ask: Ask, algorithm: Algorithm, include_alg: bool
) -> None:
    result = await ask(merchant.sign(payment(), algorithm, include_alg=include_alg))
    assert isinstance(result, Authenticated), result
    assert (result.merchant.id, result.scheme, result.key_id) == (
        "bookshop",
        Scheme.HTTP_SIGNATURE,
        f"key-{algorithm}",
    )
    assert (result.timestamp_s, result.window_s) == (NOW_S, WINDOW_S)
    key_id = f"key-{algorithm}"
    assert result.nonce == f"http_signature:{len(key_id)}:{key_id}:{NONCE}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("other", ALGORITHMS)
async def test_a_key_has_one_algorithm(merchant: Merchant, ask: Ask, algorithm: Algorithm, other: Algorithm) -> None:
    """Neither the alg parameter nor the kind of signature chooses how a key is used."""
    sent = merchant.sign(payment(), algorithm)
    value = sent.headers["signature-input"][0]
    renamed = value.replace(f'keyid="key-{algorithm}"', f'keyid="key-{other}"')
    changed = value.replace(f'alg="{algorithm}"', f'alg="{other}"')
    for text in (renamed, changed):
        result = await ask(with_headers(sent, {"signature-input": text}))
        assert isinstance(result, Authenticated) if algorithm is other else refused(result)


@pytest.mark.parametrize(
    "covered",
    [
        ("@method", "@target-uri", "content-digest"),
        ("content-digest", "@request-target", "@method"),
        ("@path", "@query", "@method", "content-digest"),
        ("@method", "@target-uri", "@scheme", "@authority", "content-digest"),
        ("@method", "@target-uri", '"@query-param";name="note"', '"@query-param";name="channel"', "content-digest"),
    ],
)
async def test_coverage_that_is_enough(merchant: Merchant, ask: Ask, covered: tuple[str, ...]) -> None:
    assert isinstance(await ask(merchant.sign(payment(), covered=covered)), Authenticated)


async def test_digests_of_either_kind_and_labels_of_any_name(merchant: Merchant, ask: Ask) -> None:
    sent = merchant.sign(payment(), signer=Sha512Signer)
    assert sent.headers["content-digest"][0].startswith("sha-512")
    assert isinstance(await ask(sent), Authenticated)
    both = {"Content-Digest": ", ".join([sent.headers["content-digest"][0], digest_of(BODY)])}
    assert isinstance(await ask(merchant.sign(payment(**both), use_existing_digest=True)), Authenticated)
    with_unknown = with_headers(sent, {"content-digest": f"md5=:AAAA:, {digest_of(BODY)}"})
    assert isinstance(await ask(merchant.sign_text(with_unknown, f"({ENOUGH}){PARAMETERS}")), Authenticated)
    assert isinstance(await ask(merchant.sign(payment(), label="*another-label.1")), Authenticated)
    assert isinstance(await ask(merchant.sign(payment(), tag=None)), Authenticated)
    assert isinstance(await ask(merchant.sign(payment(), tag="another application")), Authenticated)


async def test_without_a_body(merchant: Merchant, ask: Ask) -> None:
    for covered in (("@method", "@target-uri"), ("@method", "@path")):
        assert isinstance(await ask(merchant.sign(query(), covered=covered)), Authenticated)
    sent = merchant.sign(query(), covered=("@method", "@path"))
    assert refused(await ask(replace(sent, target=f"{sent.target}?refund=1")), "@query is not covered")
    assert refused(await ask(replace(sent, target=f"{sent.target}?")), "@query is not covered")
    assert refused(await ask(replace(sent, body=b"{}")), "content-digest is not covered")
    for header in ({"content-length": "2"}, {"transfer-encoding": "chunked"}, {"content-digest": digest_of(b"")}):
        assert refused(await ask(with_headers(sent, header)), "content-digest is not covered"), header
    assert isinstance(await ask(with_headers(sent, {"content-length": "0"})), Authenticated)
    empty = Message("POST", f"https://{AUTHORITY}/v1/payments/1/close", {"Content-Digest": digest_of(b"")})
    sent = merchant.sign(empty, covered=("@method", "@path", "content-digest"), use_existing_digest=True)
    assert isinstance(await ask(sent), Authenticated)
    assert refused(await ask(replace(sent, body=BODY)), "content-digest is not the body's")


def digest_of(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


# -- every change of a genuine message ---------------------------------------------------------------------------------

OTHER_BODY = BODY.replace(b"100", b"101")
CHANGES: dict[str, Callable[[Request], Request]] = {
    "method": lambda sent: replace(sent, method="PUT"),
    "method in lower case": lambda sent: replace(sent, method="post"),
    "path": lambda sent: replace(sent, target=sent.target.replace("payments", "refunds")),
    "path's case": lambda sent: replace(sent, target=sent.target.replace("/v1", "/V1")),
    "path's encoding": lambda sent: replace(sent, target=sent.target.replace("payments", "%70ayments")),
    "query changed": lambda sent: replace(sent, target=sent.target.replace("card", "wechat")),
    "query spelled otherwise": lambda sent: replace(sent, target=sent.target.replace("%20", "+")),
    "query turned": lambda sent: replace(sent, target="/v1/payments?note=a%20b&channel=card"),
    "query added": lambda sent: replace(sent, target=sent.target + "&a=1"),
    "query removed": lambda sent: replace(sent, target="/v1/payments"),
    "scheme": lambda sent: replace(sent, scheme="http"),
    "scheme unknown": lambda sent: replace(sent, scheme=""),
    "authority": lambda sent: replace(sent, authority="pay.example.org"),
    "authority's port": lambda sent: replace(sent, authority="pay.example.com:8443"),
    "authority unknown": lambda sent: replace(sent, authority=""),
    "body": lambda sent: replace(sent, body=OTHER_BODY),
    "body longer": lambda sent: replace(sent, body=sent.body + b" "),
    "body gone": lambda sent: replace(sent, body=b""),
    "body and announced length gone": lambda sent: with_headers(replace(sent, body=b""), {"content-length": None}),
    "body and its digest": lambda sent: with_headers(
        replace(sent, body=OTHER_BODY), {"content-digest": digest_of(OTHER_BODY)}
    ),
    "digest only": lambda sent: with_headers(sent, {"content-digest": digest_of(OTHER_BODY)}),
    "digest gone": lambda sent: with_headers(sent, {"content-digest": None}),
    "digest of an ignored kind": lambda sent: with_headers(sent, {"content-digest": "md5=:AAAA:"}),
    "right digest beside the wrong body's": lambda sent: with_headers(
        replace(sent, body=OTHER_BODY),
        {"content-digest": f"{sent.headers['content-digest'][0]}, {digest_of(OTHER_BODY)}"},
    ),
    "digest spelled otherwise": lambda sent: with_headers(
        sent, {"content-digest": f"{sent.headers['content-digest'][0]};a"}
    ),
    "digest twice": lambda sent: with_headers(
        replace(sent, body=OTHER_BODY), {"content-digest": (*sent.headers["content-digest"], digest_of(OTHER_BODY))}
    ),
    "header changed": lambda sent: with_headers(sent, {"idempotency-key": '"k2"'}),
    "header's case": lambda sent: with_headers(sent, {"content-type": "Application/json"}),
    "header extended": lambda sent: with_headers(sent, {"idempotency-key": ('"k1"', '"k2"')}),
    "header removed": lambda sent: with_headers(sent, {"idempotency-key": None}),
    "header emptied": lambda sent: with_headers(sent, {"idempotency-key": ""}),
    "header with another base's line": lambda sent: with_headers(sent, {"idempotency-key": '"k1"\n"@method": GET'}),
    "header outside ASCII": lambda sent: with_headers(sent, {"idempotency-key": '"k\u00e9"'}),
    "signature-input twice": lambda sent: with_headers(sent, {"signature-input": sent.headers["signature-input"] * 2}),
    "signature twice": lambda sent: with_headers(sent, {"signature": sent.headers["signature"] * 2}),
    "signature gone": lambda sent: with_headers(sent, {"signature": None}),
    "signature-input gone": lambda sent: with_headers(sent, {"signature-input": None}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_no_change_passes(merchant: Merchant, ask: Ask, change: Callable[[Request], Request]) -> None:
    sent = merchant.sign(payment())
    assert isinstance(await ask(sent), Authenticated)
    assert refused(await ask(change(sent)))


INPUT_CHANGES: dict[str, tuple[str, str]] = {
    "components in another order": ('"@method" "@target-uri"', '"@target-uri" "@method"'),
    "component removed": (' "idempotency-key"', ""),
    "digest removed": (' "content-digest"', ""),
    "method removed": ('"@method" ', ""),
    "target removed": (' "@target-uri"', ""),
    "component added": ('"@method"', '"@method" "@path"'),
    "component twice": ('"@method"', '"@method" "@method"'),
    "component in upper case": ('"content-type"', '"Content-Type"'),
    "component as token": ('"content-type"', "content-type"),
    "component as bytes": ('"content-type"', ":YWJj:"),
    "derived component of responses": ('"content-type"', '"@status"'),
    "derived component nobody knows": ('"content-type"', '"@unknown"'),
    "the parameters as component": ('"content-type"', '"@signature-params"'),
    "pseudo header": ('"content-type"', '":path"'),
    "header nobody sent": ('"content-type"', '"x-absent"'),
    "empty component": ('"content-type"', '""'),
    "component that is a list": ('"content-type"', '("content-type")'),
    "parameters in another order": (f'created={NOW_S};keyid="key-ed25519"', f'keyid="key-ed25519";created={NOW_S}'),
    "created changed": (f"created={NOW_S}", f"created={NOW_S + 1}"),
    "created removed": (f";created={NOW_S}", ""),
    "created a string": (f"created={NOW_S}", f'created="{NOW_S}"'),
    "created a decimal": (f"created={NOW_S}", f"created={NOW_S}.0"),
    "created a date": (f"created={NOW_S}", f"created=@{NOW_S}"),
    "created a boolean": (f"created={NOW_S}", "created"),
    "created negative": (f"created={NOW_S}", f"created=-{NOW_S}"),
    "created too far": (f"created={NOW_S}", "created=999999999999999"),
    "created twice": (f"created={NOW_S}", f"created={NOW_S};created={NOW_S}"),
    "expires added": (f"created={NOW_S}", f"created={NOW_S};expires={NOW_S + 9}"),
    "expires a string": (f"created={NOW_S}", f'created={NOW_S};expires="{NOW_S + 9}"'),
    "nonce changed": (NONCE, NONCE + "1"),
    "nonce removed": (f';nonce="{NONCE}"', ""),
    "nonce empty": (f'nonce="{NONCE}"', 'nonce=""'),
    "nonce a token": (f'nonce="{NONCE}"', f"nonce={NONCE}"),
    "nonce too long": (NONCE, "n" * 129),
    "nonce twice": (f'nonce="{NONCE}"', f'nonce="other";nonce="{NONCE}"'),
    "keyid removed": (';keyid="key-ed25519"', ""),
    "keyid unknown": ('keyid="key-ed25519"', 'keyid="key-of-nobody"'),
    "keyid of another case": ('keyid="key-ed25519"', 'keyid="KEY-ed25519"'),
    "keyid twice": ('keyid="key-ed25519"', 'keyid="key-hmac-sha256";keyid="key-ed25519"'),
    "keyid bytes": ('keyid="key-ed25519"', "keyid=:YWJj:"),
    "alg removed": (';alg="ed25519"', ""),
    "alg of the transport": ('alg="ed25519"', 'alg="tls"'),
    "alg of another scheme": ('alg="ed25519"', 'alg="unionpay-sha256"'),
    "alg none": ('alg="ed25519"', 'alg="none"'),
    "alg empty": ('alg="ed25519"', 'alg=""'),
    "alg a token": ('alg="ed25519"', "alg=ed25519"),
    "alg a boolean": ('alg="ed25519"', "alg"),
    "alg in upper case": ('alg="ed25519"', 'alg="ED25519"'),
    "tag changed": ('tag="paymesh"', 'tag="Paymesh"'),
    "tag a token": ('tag="paymesh"', "tag=paymesh"),
    "unknown parameter added": ('tag="paymesh"', 'tag="paymesh";x=1'),
    "another label": ("sig1=", "sig2="),
    "no label": ("sig1=", ""),
    "no list": ('("@method"', '"@method"'),
    "a label without signature": ("sig1=", 'other=("@method"), sig1='),
    "the same label before": ("sig1=", 'sig1=("@method"), sig1='),
    "comma at the end": ('tag="paymesh"', 'tag="paymesh",'),
    "very long": ('tag="paymesh"', f'tag="paymesh";x="{"x" * 4096}"'),
    "outside ASCII": ('tag="paymesh"', 'tag="paymesh";x="\u00e9"'),
    "a line break": ('tag="paymesh"', 'tag="paymesh";x="\n"'),
}


@pytest.mark.parametrize(("old", "new"), INPUT_CHANGES.values(), ids=INPUT_CHANGES.keys())
async def test_no_change_of_signature_input_passes(merchant: Merchant, ask: Ask, old: str, new: str) -> None:
    sent = merchant.sign(payment())
    value = sent.headers["signature-input"][0]
    assert value.count(old) == 1, value
    assert refused(await ask(with_headers(sent, {"signature-input": value.replace(old, new)})))


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ("component twice", "a component is covered twice"),
        ("component in upper case", "a header's name in lower case"),
        ("component as token", "a component's name is not a string"),
        ("derived component of responses", "neither derived of a request"),
        ("derived component nobody knows", "neither derived of a request"),
        ("the parameters as component", "neither derived of a request"),
        ("pseudo header", "neither derived of a request"),
        ("header nobody sent", "that the request does not have"),
        ("created removed", "no created"),
        ("created a string", "created is no Unix time"),
        ("created a decimal", "created is no Unix time"),
        ("created a date", "created is no Unix time"),
        ("created a boolean", "created is no Unix time"),
        ("created negative", "created is no Unix time"),
        ("created too far", "created is no Unix time"),
        ("created twice", "each key stands once"),
        ("expires a string", "expires is no Unix time"),
        ("nonce removed", "no nonce"),
        ("nonce empty", "no nonce"),
        ("nonce a token", "no nonce"),
        ("nonce too long", "nonce is too long"),
        ("keyid removed", "no keyid"),
        ("keyid twice", "each key stands once"),
        ("keyid bytes", "no keyid"),
        ("alg of the transport", "alg is no algorithm"),
        ("alg of another scheme", "alg is no algorithm"),
        ("alg none", "alg is no algorithm"),
        ("alg a token", "alg is no algorithm"),
        ("alg a boolean", "alg is no algorithm"),
        ("tag a token", "a tag is not a string"),
        ("another label", "the same labels"),
        ("a label without signature", "the same labels"),
        ("the same label before", "each key stands once"),
        ("very long", "too long"),
    ],
)
def test_refused_before_any_key_is_asked(merchant: Merchant, change: str, detail: str) -> None:
    """Not left to the signature: a sender that signs such a message itself is refused as well."""
    sent = merchant.sign(payment())
    text = sent.headers["signature-input"][0].replace(*INPUT_CHANGES[change])
    assert refused(SCHEME.read(with_headers(sent, {"signature-input": text}), None), detail)  # type: ignore[arg-type]


def test_no_more_components_than_a_request_has(merchant: Merchant) -> None:
    sent = merchant.sign(payment())
    many = " ".join(f'"x{number}"' for number in range(MAX_COMPONENTS))
    text = sent.headers["signature-input"][0].replace('"@method"', f'"@method" {many}')
    result = SCHEME.read(with_headers(sent, {"signature-input": text}), None)  # type: ignore[arg-type]
    assert refused(result, f"more than {MAX_COMPONENTS} components")


def test_a_very_long_signature_is_not_read(merchant: Merchant) -> None:
    sent = merchant.sign(payment())
    text = f"sig1=:{'A' * 4096}:"
    assert refused(SCHEME.read(with_headers(sent, {"signature": text}), None), "too long")  # type: ignore[arg-type]


@pytest.mark.parametrize("header", ["signature-input", "signature", "content-digest"])
async def test_no_single_character_may_change(merchant: Merchant, ask: Ask, header: str) -> None:
    sent = merchant.sign(payment())
    value = sent.headers[header][0]
    for at, old in enumerate(value):
        for new in {"", "A", "0", " ", '"', old.swapcase(), old * 2} - {old}:
            changed = with_headers(sent, {header: value[:at] + new + value[at + 1 :]})
            result = await ask(changed)
            # White space between items is no part of what is signed: both spellings are the same signature.
            same = (header, old, new) == ("signature-input", " ", "  ")
            assert isinstance(result, Authenticated) if same else isinstance(result, Denial), (at, new)


def spelled(value: str, change: Callable[[str], str]) -> str:
    label, _, text = value.partition("=")
    return f"{label}=:{change(text.strip(':'))}:"


SPELLINGS: dict[str, Callable[[str], str]] = {
    "without padding": lambda value: spelled(value, lambda text: text.rstrip("=")),
    "with more padding": lambda value: spelled(value, lambda text: text + "="),
    "URL alphabet": lambda value: spelled(value, lambda text: text.replace("+", "-").replace("/", "_")),
    "dropped bits": lambda value: spelled(value, lambda text: text[:-3] + chr(ord(text[-3]) + 1) + text[-2:]),
    "white space": lambda value: spelled(value, lambda text: f"{text[:4]} {text[4:]}"),
    "hex": lambda value: spelled(value, lambda text: base64.b64decode(text).hex()),
    "empty": lambda value: spelled(value, lambda _: ""),
    "a string": lambda value: value.replace(":", '"'),
    "bare": lambda value: value.replace(":", ""),
    "a list": lambda value: value.replace("=:", "=(:", 1) + ")",
}


@pytest.mark.parametrize("change", SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_a_signature_has_one_spelling(merchant: Merchant, ask: Ask, change: Callable[[str], str]) -> None:
    sent = merchant.sign(payment())
    # An Ed25519 signature ends in `==`; one with both special characters is found after a few nonces.
    for number in range(200):
        if all(character in sent.headers["signature"][0] for character in "+/"):
            break
        sent = merchant.sign(payment(), nonce=f"n{number}")
    assert isinstance(await ask(sent), Authenticated)
    assert refused(await ask(with_headers(sent, {"signature": change(sent.headers["signature"][0])})))


async def test_the_ecdsa_signature_is_not_der(merchant: Merchant, ask: Ask) -> None:
    sent = merchant.sign(payment(), Algorithm.ECDSA_P256_SHA256)
    claim = SCHEME.read(sent, None)  # type: ignore[arg-type]
    key = merchant.keys[f"key-{Algorithm.ECDSA_P256_SHA256}"]
    assert isinstance(claim, Claim)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert len(claim.signature) == 64
    der = key.sign(claim.signed, client.algorithms.ECDSA_P256_SHA256(private_key=key).signature_algorithm)
    value = f"sig1=:{base64.b64encode(der).decode()}:"
    assert refused(await ask(with_headers(sent, {"signature": value})), "mismatch")


# -- genuine signatures that say too little ----------------------------------------------------------------------------

PARAMETERS = f';created={NOW_S};nonce="{NONCE}";keyid="key-ed25519"'
ENOUGH = '"@method" "@target-uri" "content-digest"'


@pytest.fixture
def sent_by_hand(merchant: Merchant) -> Callable[[str], Request]:
    unsigned = with_headers(payment().as_envoy_tells(), {"content-digest": digest_of(BODY)})
    return lambda text: merchant.sign_text(unsigned, text)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("()" + PARAMETERS, "@method is not covered"),
        ('("@target-uri" "content-digest")' + PARAMETERS, "@method is not covered"),
        ('("@method" "content-digest")' + PARAMETERS, "the target is not covered"),
        ('("@method" "@authority" "content-digest")' + PARAMETERS, "the target is not covered"),
        ('("@method" "@query" "content-digest")' + PARAMETERS, "the target is not covered"),
        ('("@method" "@path" "content-digest")' + PARAMETERS, "@query is not covered"),
        (
            '("@method" "@path" "@query-param";name="note" "@query-param";name="channel" "content-digest")'
            + PARAMETERS,
            "@query is not covered",
        ),
        ('("@method" "@target-uri")' + PARAMETERS, "content-digest is not covered"),
        ('("@method" "@target-uri" "content-length" "content-type")' + PARAMETERS, "content-digest is not covered"),
        (f"({ENOUGH})" + PARAMETERS.replace(f";created={NOW_S}", ""), "created"),
        (f"({ENOUGH})" + PARAMETERS.replace(f';nonce="{NONCE}"', ""), "nonce"),
        (f"({ENOUGH})" + PARAMETERS.replace(';keyid="key-ed25519"', ""), "keyid"),
        (f"({ENOUGH})" + PARAMETERS + f";expires={NOW_S - 1}", "expiry"),
        (f"({ENOUGH})" + PARAMETERS + ';alg="hmac-sha256"', "another algorithm"),
    ],
)
async def test_a_genuine_signature_that_is_not_enough(
    sent_by_hand: Callable[[str], Request], ask: Ask, text: str, detail: str
) -> None:
    assert refused(await ask(sent_by_hand(text)), detail)


@pytest.mark.parametrize(
    "text",
    [
        f"({ENOUGH})" + PARAMETERS,
        # Parameters in any order; those that we do not know are signed, and say nothing to us.
        f'({ENOUGH});keyid="key-ed25519";x=1.50;alg="ed25519";y;nonce="{NONCE}";z=tok/en;created={NOW_S};b=:YWJj:;d=@5',
        f"({ENOUGH})" + PARAMETERS + f";expires={NOW_S}",
        f'(  {ENOUGH.replace(" ", "   ")} );  created={NOW_S}; nonce="{NONCE}";keyid="key-ed25519"',
    ],
)
async def test_a_genuine_signature_that_is_enough(sent_by_hand: Callable[[str], Request], ask: Ask, text: str) -> None:
    result = await ask(sent_by_hand(text))
    assert isinstance(result, Authenticated), result


async def test_expires_ends_a_signature_early(sent_by_hand: Callable[[str], Request], ask: Ask) -> None:
    sent = sent_by_hand(f"({ENOUGH})" + PARAMETERS + f";expires={NOW_S + 10}")
    assert isinstance(await ask(sent, NOW_S + 10), Authenticated)
    assert refused(await ask(sent, NOW_S + 11), "expiry")


@pytest.mark.parametrize("parameter", ["sf", "bs", "tr", "req", 'key="a"', 'name="a"', "x-new"])
@pytest.mark.parametrize("component", ['"content-digest"', '"@method"'])
async def test_component_parameters_are_refused_by_name(
    merchant: Merchant, ask: Ask, component: str, parameter: str
) -> None:
    sent = merchant.sign(payment())
    text = sent.headers["signature-input"][0].replace(component, f"{component};{parameter}")
    result = await ask(with_headers(sent, {"signature-input": text}))
    assert isinstance(result, Denial)
    assert result.reason is Reason.CREDENTIAL_UNSUPPORTED
    known = parameter.partition("=")[0]
    assert result.detail == (
        "an unknown component parameter is not supported"
        if known == "x-new"
        else f"the component parameter {known} is not supported"
    )


@pytest.mark.parametrize("parameters", ["", ";name", ";name=1", ";name=tok", ';name="a";req', ';name="a";name="b"'])
async def test_a_query_parameter_has_a_name_and_nothing_else(merchant: Merchant, ask: Ask, parameters: str) -> None:
    sent = merchant.sign(payment())
    text = sent.headers["signature-input"][0].replace('"@method"', f'"@method" "@query-param"{parameters}')
    assert refused(await ask(with_headers(sent, {"signature-input": text})))


async def test_an_algorithm_that_is_not_verified_is_said(merchant: Merchant, ask: Ask) -> None:
    sent = merchant.sign(payment())
    text = sent.headers["signature-input"][0].replace('alg="ed25519"', 'alg="ecdsa-p384-sha384"')
    result = await ask(with_headers(sent, {"signature-input": text}))
    assert isinstance(result, Denial)
    assert result.reason is Reason.CREDENTIAL_UNSUPPORTED


# -- several signatures ------------------------------------------------------------------------------------------------


def joined(first: Request, second: Request) -> Request:
    names = ("signature-input", "signature")
    return with_headers(first, {name: f"{first.headers[name][0]}, {second.headers[name][0]}" for name in names})


async def test_of_several_signatures_the_one_for_us_counts(
    merchant: Merchant, sent_by_hand: Callable[[str], Request], ask: Ask
) -> None:
    unsigned = with_headers(payment().as_envoy_tells(), {"content-digest": digest_of(BODY)})
    ours = sent_by_hand(f"({ENOUGH})" + PARAMETERS + ';tag="paymesh"')
    theirs = merchant.sign_text(unsigned, '("@method");created=1;keyid="proxy";tag="proxy"', "proxy")
    broken = with_headers(theirs, {"signature": "proxy=:AAAA:"})
    for other in (theirs, broken):
        assert isinstance(await ask(joined(ours, other)), Authenticated)
        assert isinstance(await ask(joined(other, ours)), Authenticated)
    # Where ours is wrong, a right one beside it does not help.
    forged = with_headers(ours, {"signature": "sig1=" + theirs.headers["signature"][0].partition("=")[2]})
    plainly_right = merchant.sign_text(unsigned, f"({ENOUGH})" + PARAMETERS, "right")
    assert isinstance(await ask(plainly_right), Authenticated)
    assert refused(await ask(joined(forged, plainly_right)), "mismatch")


async def test_several_signatures_of_which_not_exactly_one_is_for_us(
    merchant: Merchant, sent_by_hand: Callable[[str], Request], ask: Ask
) -> None:
    unsigned = with_headers(payment().as_envoy_tells(), {"content-digest": digest_of(BODY)})
    for tag in ("", ';tag="paymesh"'):
        first = sent_by_hand(f"({ENOUGH})" + PARAMETERS + tag)
        second = merchant.sign_text(unsigned, f"({ENOUGH})" + PARAMETERS + tag, "sig2")
        assert isinstance(await ask(first), Authenticated)
        assert isinstance(await ask(second), Authenticated)
        assert refused(await ask(joined(first, second)), "several")
        assert refused(await ask(with_headers(first, {"signature": second.headers["signature"][0]})), "labels")
        both = {"signature": joined(first, second).headers["signature"][0]}
        assert refused(await ask(with_headers(first, both)), "labels")


# -- what a claim is, and any input ------------------------------------------------------------------------------------


def test_the_claim(merchant: Merchant) -> None:
    claim = SCHEME.read(merchant.sign(payment()), None)  # type: ignore[arg-type]
    assert isinstance(claim, Claim)
    assert claim.key == KeyRef(KeyKind.HTTP_SIGNATURE, "key-ed25519")
    assert (claim.algorithm, claim.expires_at_s) == (Algorithm.ED25519, None)
    assert claim.signed.startswith(b'"@method": POST\n"@target-uri": https://pay.example.com/v1/payments?channel=card')


def test_recognised_by_signature_input() -> None:
    bare = plain("GET", "https://e.com/", [("Signature", "x")])
    assert not SCHEME.recognises(bare)
    assert SCHEME.recognises(with_headers(bare, {"signature-input": ""}))


def test_a_refusal_holds_no_value_of_the_request() -> None:
    planted = "plantedvalue"
    texts = [
        f'sig1=("{planted}");created=1;keyid="{planted}";nonce="{planted}"',
        f'sig1=("@method" "@path");created=1;keyid="{planted}";nonce="{planted}";alg="{planted}"',
        f'sig1=("@method";{planted});created=1;keyid="{planted}";nonce="{planted}"',
        f'sig1=("@method" "@path" "@query-param";name="{planted}");created=1;keyid="k";nonce="n"',
        f'sig1=("@method" "@path");created={planted};keyid="k";nonce="n";tag="{planted}"',
        f'{planted}=("@method")',
    ]
    for text in texts:
        headers = [("Signature-Input", text), ("Signature", "sig1=:AAAA:")]
        result = SCHEME.read(plain("GET", f"https://e.com/{planted}", headers), None)  # type: ignore[arg-type]
        assert isinstance(result, Denial), text
        assert planted not in f"{result!r}"


@given(signature_input=st.text(max_size=300), signature=st.text(max_size=300))
def test_any_headers_are_read_or_refused(signature_input: str, signature: str) -> None:
    with pytest.raises(SignatureError):
        read_signature(signature_input, signature)


_PIECES = [
    *'=(),;: \t"\\?@%-.*0a',
    "sig1=(",
    '"@method"',
    '"@path"',
    '"@query-param"',
    ';name="a"',
    ";created=1",
    ';keyid="k"',
    ';nonce="n"',
    ';alg="ed25519"',
    ';tag="paymesh"',
    ")",
    "é",
]


@given(pieces=st.lists(st.sampled_from(_PIECES), max_size=25), target=st.text(max_size=30), body=st.binary(max_size=3))
def test_headers_near_the_grammar_are_read_or_refused(pieces: list[str], target: str, body: bytes) -> None:
    for text in ("".join(pieces), 'sig1=("@method" "@path"' + "".join(pieces)):
        headers = {"signature-input": (text,), "signature": ("sig1=:AAAA:",)}
        sent = Request("GET", f"/{target}", headers, body, "id-1", scheme="https", authority="e.com")
        result = SCHEME.read(sent, None)  # type: ignore[arg-type]
        if isinstance(result, Claim):
            assert not body
            assert result.signed.startswith(b'"@method": GET\n"@path": /')


_NAMES = st.text("!#$%&'*+-.^_`|~abc019", min_size=1, max_size=5)
_VALUES = st.text([chr(code) for code in range(0x20, 0x7F)], max_size=12)


@given(headers=st.dictionaries(_NAMES, st.lists(_VALUES, min_size=1, max_size=3), max_size=5), nonce=_VALUES)
def test_a_base_says_every_value_once(headers: dict[str, list[str]], nonce: str) -> None:
    """One line for each component, in the order of the input; no value can write a line of its own."""
    quoted = nonce.replace("\\", "\\\\").replace('"', '\\"')
    covered = " ".join(f'"{name}"' for name in headers)
    text = f'({covered});created=1;nonce="{quoted}"'
    sent = Request("GET", "/", {name: tuple(values) for name, values in headers.items()}, b"", "id-1")
    base = signature_base(sent, read_signature(f"sig={text}", "sig=:AAAA:")).decode()
    expected = [f'"{name}": {", ".join(value.strip() for value in values)}' for name, values in headers.items()]
    assert base.split("\n") == [*expected, f'"@signature-params": {text}']


@given(query=st.text(max_size=40), name=_VALUES)
def test_any_query_parameter_is_read_or_refused(query: str, name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    found = read_signature(f'sig=("@query-param";name="{quoted}")', "sig=:AAAA:")
    try:
        base = signature_base(Request("GET", f"/?{query}", {}, b"", "id-1"), found)
    except SignatureError:
        return
    assert base.count(b"\n") == 1
