"""A channel that nobody here knows passes the suite: one adapter file, found by the name that a policy gives it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from paymesh.payments.adapters.contract import ChannelIdentity
from paymesh.payments.adapters.registry import ADAPTERS, AdapterUnknown, find_adapter
from paymesh.payments.secrets import Secret
from tests.channels.fifth_bank_simulator import SECRET, SHOP, build_fifth_bank
from tests.channels.harness import Channel, Heard, Provider, running
from tests.channels.suite import Conformance

HERE = Path(__file__).resolve().parent


def _unsigned(heard: Heard) -> Heard:
    kept = {name: value for name, value in heard.headers.items() if name != "x-bank-signature"}
    return Heard(heard.status, kept, heard.body)


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield Channel(
            adapter=find_adapter("fifth_bank:ADAPTER"),
            product="qr",
            build=build_fifth_bank,
            identity=lambda _: ChannelIdentity(account=SHOP, secret=Secret(SECRET)),
            unsigned=_unsigned,
        )
    sys.modules.pop("fifth_bank", None)


@pytest.fixture
async def provider(channel: Channel, demo_keys: Path) -> AsyncIterator[Provider]:
    async with running(channel, demo_keys) as found:
        yield found


class TestFifthChannel(Conformance):
    pass


def test_it_is_not_one_of_ours(channel: Channel) -> None:
    assert channel.adapter.name not in ADAPTERS


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_ours_are_found_by_name(name: str) -> None:
    assert find_adapter(name) is ADAPTERS[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("alipay", "is none of alipay_v2, unionpay, wechat_v3"),
        ("no_such_module:ADAPTER", "cannot be imported (ModuleNotFoundError"),
        ("json:ADAPTER", "cannot be imported (AttributeError"),
        (":ADAPTER", "cannot be imported"),
        ("json:dumps", "is no adapter: it lacks capabilities, identity_problems, problems, write_pay"),
    ],
)
def test_what_is_no_adapter_is_said(name: str, said: str) -> None:
    with pytest.raises(AdapterUnknown) as caught:
        find_adapter(name)
    assert str(caught.value).startswith(said)
