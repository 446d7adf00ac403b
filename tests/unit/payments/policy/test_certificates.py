"""Trusting a certificate that comes with a message: its chain, its dates, its name, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.policy.certificates import CertificateTrust
from tests.unit.payments.credentials.keyring import NOW_S, YEAR_S, Issued, issue, named, new_key

NAME = "041@Z12@00040000:UNIONPAY"


@dataclass(frozen=True)
class Chain:
    root: Issued
    intermediate: Issued
    leaf: Issued
    direct: Issued
    """Signed by the root itself."""


@pytest.fixture(scope="module")
def keys() -> list[rsa.RSAPrivateKey]:
    return [new_key() for _ in range(4)]


@pytest.fixture(scope="module")
def chain(keys: list[rsa.RSAPrivateKey]) -> Chain:
    root = issue("root", keys[0])
    intermediate = issue("intermediate", keys[1], root, until_s=NOW_S + 1000)
    leaf = issue(NAME, keys[2], intermediate, from_s=NOW_S - 500, serial=4_000_000_000)
    return Chain(root, intermediate, leaf, issue(NAME, keys[2], root))


def trust(*authorities: Issued, name: str = re.escape(NAME)) -> CertificateTrust:
    return CertificateTrust(tuple(one.certificate for one in authorities), re.compile(name))


def test_the_whole_chain(chain: Chain) -> None:
    found = trust(chain.root, chain.intermediate).key_of(chain.leaf.pem.encode())
    assert found is not None
    assert found.key == chain.leaf.key.public_key()
    assert (found.serial, found.valid_from_s, found.valid_until_s) == ("4000000000", NOW_S - 500, NOW_S + 1000)


def test_every_authority_may_sign_in_any_order(chain: Chain) -> None:
    for authorities in (
        (chain.root,),
        (chain.root, chain.intermediate),
        (chain.intermediate, chain.root),
    ):
        found = trust(*authorities).key_of(chain.direct.pem.encode())
        assert found is not None
        assert (found.valid_from_s, found.valid_until_s) == (NOW_S - YEAR_S, NOW_S + YEAR_S)
    # An operator may trust an intermediate without its root: then its own dates are the end of it.
    assert trust(chain.intermediate).key_of(chain.leaf.pem.encode()) is not None


def test_another_root(chain: Chain, keys: list[rsa.RSAPrivateKey]) -> None:
    impostor = issue("root", keys[3])  # the same name, another key
    stranger = issue("stranger", keys[3])
    assert trust(impostor).key_of(chain.direct.pem.encode()) is None
    assert trust(stranger).key_of(chain.direct.pem.encode()) is None
    assert trust(chain.root).key_of(issue(NAME, keys[2], impostor).pem.encode()) is None
    assert trust(stranger, impostor, chain.root).key_of(chain.direct.pem.encode()) is not None


def test_a_missing_or_brought_intermediate(chain: Chain) -> None:
    only_root = trust(chain.root)
    assert only_root.key_of(chain.leaf.pem.encode()) is None
    # What a message brings along is no authority.
    assert only_root.key_of((chain.leaf.pem + chain.intermediate.pem).encode()) is None
    assert only_root.key_of((chain.leaf.pem + chain.intermediate.pem + chain.root.pem).encode()) is None


def test_signed_by_itself(keys: list[rsa.RSAPrivateKey], chain: Chain) -> None:
    assert trust(chain.root).key_of(issue(NAME, keys[3]).pem.encode()) is None


def test_a_certificate_that_is_no_authority_signs_nobody(chain: Chain, keys: list[rsa.RSAPrivateKey]) -> None:
    merchant = issue("041@Z2026@merchant", keys[3], chain.root)
    forged = issue(NAME, keys[2], merchant)
    assert trust(chain.root, chain.intermediate).key_of(forged.pem.encode()) is None
    assert trust(chain.root, chain.intermediate).key_of((forged.pem + merchant.pem).encode()) is None


def test_authorities_that_signed_each_other(keys: list[rsa.RSAPrivateKey]) -> None:
    """A circle without a root ends, without an answer."""
    first, second = issue("first", keys[0]), issue("second", keys[1])
    one = issue("first", keys[0], second)
    other = issue("second", keys[1], first)
    assert trust(one, other).key_of(issue(NAME, keys[2], one).pem.encode()) is None


@pytest.mark.parametrize("name", ["041@Z2026@merchant", NAME + "x", "x" + NAME, NAME.lower(), f"{NAME}\n", f" {NAME}"])
def test_another_name(chain: Chain, keys: list[rsa.RSAPrivateKey], name: str) -> None:
    assert trust(chain.root).key_of(issue(name, keys[3], chain.root).pem.encode()) is None


def test_two_names_or_none(chain: Chain, keys: list[rsa.RSAPrivateKey]) -> None:
    for names in ((), (NAME, "other"), (NAME, NAME)):
        assert trust(chain.root).key_of(issue(named(*names), keys[3], chain.root).pem.encode()) is None


def test_the_name_may_be_any_that_fits_the_whole_pattern(chain: Chain) -> None:
    found = r"[^@]+@[^@]+@00040000:UNIONPAY"
    assert trust(chain.root, name=found).key_of(chain.direct.pem.encode()) is not None
    assert trust(chain.root, name="00040000:UNIONPAY").key_of(chain.direct.pem.encode()) is None
    assert trust(chain.root, name=".*").key_of(chain.direct.pem.encode()) is not None


def test_dates_are_told_not_judged(chain: Chain, keys: list[rsa.RSAPrivateKey]) -> None:
    """Whether it is valid now is asked each time; the answer about the chain is kept."""
    past = issue(NAME, keys[3], chain.root, from_s=NOW_S - 300, until_s=NOW_S - 200)
    found = trust(chain.root).key_of(past.pem.encode())
    assert found is not None
    assert (found.valid_from_s, found.valid_until_s) == (NOW_S - 300, NOW_S - 200)


def test_keys_that_are_too_weak_or_of_another_kind(chain: Chain) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    assert trust(chain.root).key_of(issue(NAME, weak, chain.root).pem.encode()) is None
    subject = named(NAME)
    elliptic = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(chain.root.certificate.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(1)
        .not_valid_before(chain.root.certificate.not_valid_before_utc)
        .not_valid_after(chain.root.certificate.not_valid_after_utc)
        .sign(chain.root.key, SHA256())
    )
    assert trust(chain.root).key_of(elliptic.public_bytes(Encoding.PEM)) is None


def test_a_changed_certificate(chain: Chain) -> None:
    der = chain.direct.certificate.public_bytes(Encoding.DER)
    trusted = trust(chain.root)
    for place in (len(der) - 1, len(der) // 2, 30, der.index(b"UNIONPAY")):
        changed = bytearray(der)
        changed[place] ^= 1
        try:
            pem = x509.load_der_x509_certificate(bytes(changed)).public_bytes(Encoding.PEM)
        except ValueError:
            continue
        assert trusted.key_of(pem) is None, place


def test_what_is_remembered_is_bounded_and_stays_right(chain: Chain) -> None:
    trusted = trust(chain.root)
    genuine = chain.direct.pem.encode()
    for number in range(200):
        assert trusted.key_of(b"%d" % number) is None
        assert trusted.key_of(genuine) is trusted.key_of(genuine) is not None
    assert trusted.key_of(b"1") is None
    assert len(trusted._seen) <= 64
    assert chain.direct.pem not in repr(trusted)


def test_a_pem_that_is_very_long(chain: Chain) -> None:
    assert trust(chain.root).key_of(chain.direct.pem.encode() + b"\n" * 20_000) is None


@given(
    pem=st.binary(max_size=80)
    | st.binary(max_size=60).map(
        lambda content: b"-----BEGIN CERTIFICATE-----\n" + content + b"\n-----END CERTIFICATE-----\n"
    )
)
def test_anything_else_is_no_certificate(chain: Chain, pem: bytes) -> None:
    assert trust(chain.root).key_of(pem) is None
