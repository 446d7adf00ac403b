"""Addresses of shared state: every form, and a refusal that never shows a password."""

from __future__ import annotations

import pytest

from paymesh.payments.secrets import Secret
from paymesh.payments.shared_state.address import StateAddress, Topology, parse_state_url

SERVER, UNIX, SENTINEL, CLUSTER = Topology.SERVER, Topology.UNIX, Topology.SENTINEL, Topology.CLUSTER


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", StateAddress(SERVER, (("h", 6379),))),
        ("redis://h/", StateAddress(SERVER, (("h", 6379),))),
        ("valkey://h:1/2", StateAddress(SERVER, (("h", 1),), db=2)),
        ("redis://[::1]:7", StateAddress(SERVER, (("::1", 7),))),
        ("redis://u@h", StateAddress(SERVER, (("h", 6379),), username="u")),
        ("redis://:p@h", StateAddress(SERVER, (("h", 6379),), password=Secret(b"p"))),
        (
            "redis://u:p%40%2F:%3F@h",
            StateAddress(SERVER, (("h", 6379),), username="u", password=Secret(b"p@/:?")),
        ),
        (
            "rediss://h?ssl_ca_certs=/ca.pem",
            StateAddress(SERVER, (("h", 6379),), tls=True, tls_files={"ssl_ca_certs": "/ca.pem"}),
        ),
        ("valkeys://h", StateAddress(SERVER, (("h", 6379),), tls=True)),
        ("unix:///run/valkey.sock", StateAddress(UNIX, path="/run/valkey.sock")),
        ("unix://u:p@/a%20b?db=3", StateAddress(UNIX, path="/a b", db=3, username="u", password=Secret(b"p"))),
        ("redis+sentinel://a,b:2/pay", StateAddress(SENTINEL, (("a", 26379), ("b", 2)), master_name="pay")),
        (
            "rediss+sentinel://:p@a/pay/4?sentinel_auth=true",
            StateAddress(
                SENTINEL,
                (("a", 26379),),
                db=4,
                master_name="pay",
                tls=True,
                password=Secret(b"p"),
                sentinel_auth=True,
            ),
        ),
        ("redis+cluster://a:1,b:2,[::1]:3", StateAddress(CLUSTER, (("a", 1), ("b", 2), ("::1", 3)))),
        ("valkey+cluster://a/0", StateAddress(CLUSTER, (("a", 6379),))),
    ],
)
def test_what_can_be_used(url: str, address: StateAddress) -> None:
    assert parse_state_url(url) == address


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("", "scheme"),
        ("h:6379", "scheme"),
        ("http://h", "scheme"),
        ("redis+magic://h", "scheme"),
        ("unix+cluster:///s", "scheme"),
        ("redis://", "host 1"),
        ("redis://h:x", "host 1"),
        ("redis://h:0", "host 1"),
        ("redis://h:65536", "host 1"),
        ("redis://::1", "host 1"),
        ("redis+cluster://a,,b", "host 2"),
        ("redis://a,b", "several hosts"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/0/1", "path"),
        ("redis+cluster://h/1", "cluster"),
        ("redis+sentinel://h", "master"),
        ("redis+sentinel://h/", "master"),
        ("redis+sentinel://h/pay?sentinel_auth=1", "sentinel_auth"),
        ("unix://", "path"),
        ("unix://h/s", "three slashes"),
        ("redis://h?ssl_ca_certs=/x", "parameter 1"),
        ("rediss://h?ssl_ca_certs=/x&verify=no", "parameter 2"),
        ("rediss://h?ssl_ca_certs=/x&ssl_ca_certs=/y", "twice"),
    ],
)
def test_what_cannot_is_named(url: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_state_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2/x@h",
        "redis://u:hunter2?x@h",
        "redis://u:a@hunter2:b@h:x",
        "redis://u:p[hunter2]@h:x",
        "hunter2://u:hunter2@h",
        "redis://u:hunter2@h:hunter2",
        "redis://u:hunter2@h/hunter2",
        "rediss://u:hunter2@h?hunter2=hunter2",
        "redis+sentinel://u:hunter2@h",
    ],
)
def test_no_message_holds_what_was_written(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_state_url(url)
    assert "hunter2" not in str(refused.value)


def test_a_password_from_elsewhere() -> None:
    assert parse_state_url("redis://u@h", Secret(b"p")).password == Secret(b"p")
    with pytest.raises(ValueError, match="both"):
        parse_state_url("redis://u:p@h", Secret(b"q"))


def test_an_address_does_not_show_its_password() -> None:
    assert "hunter2" not in repr(parse_state_url("redis://u:hunter2@h"))
