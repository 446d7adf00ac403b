"""`paymesh limits` as an operator uses it, on a running gateway: what is in force, set for a while, and back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid

import pytest

from paymesh.cli.demo.payments import payment
from paymesh.cli.demo.world import World
from paymesh.cli.stack.local_stack import LocalStack

pytestmark = [pytest.mark.data_plane, pytest.mark.asyncio(loop_scope="session")]


async def limits(stack: LocalStack, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    act, *rest = arguments
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paymesh.cli", "limits", act, "--admin", stack.ports.address("limits_admin"), *rest,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def shown(stack: LocalStack, merchant: str) -> dict[str, object]:
    code, out, error = await limits(stack, "show", "-o", "json", merchant)
    assert code == 0, error
    (one,) = json.loads(out)["limits"]
    assert isinstance(one, dict)
    return one


async def paid(world: World, times: int) -> list[int]:
    """By the merchant that may send one request a second."""
    orders = [payment(f"{world.run}-{uuid.uuid4().hex[:8]}", "card") for _ in range(times)]
    return [(await world.pay(order, world.smallstall)).status for order in orders]


async def test_what_is_in_force_and_used(stack: LocalStack, world: World) -> None:
    await asyncio.sleep(3.1)  # whoever used this merchant before: its bucket is full again
    await paid(world, 1)
    code, out, error = await limits(stack, "show", "smallstall")
    assert code == 0, error
    head, row = out.splitlines()[:2]
    assert head.split() == ["LIMIT", "KEY", "KIND", "SIZE", "FROM", "USED", "MODE"]
    assert row.split()[:5] == ["per-merchant", "merchant=smallstall", "qps", "1/s:3", "merchant"]
    other = await shown(stack, "teahouse")
    assert (other["size_from"], other["kind"]) == ("limit", "qps")
    assert await limits(stack, "show", "nobody") == (2, "", "no merchant 'nobody' in the documents\n")


async def test_a_size_set_for_a_while_is_in_force_at_once_and_survives_a_restart(
    stack: LocalStack, world: World
) -> None:
    key = "per-merchant/smallstall"
    code, out, error = await limits(stack, "set", key, "500/s:500", "--for", "2h", "--reason", "sale", "--actor", "ann")
    assert code == 0, error
    assert out.startswith(f"{key}: 1/s:3 -> 500/s:500 until ")
    assert await paid(world, 5) == [200] * 5
    stack.kill("ext_authz")
    await stack.wait_ready("ext_authz")
    async with asyncio.timeout(20):
        while (await paid(world, 5)) != [200] * 5:  # each of Envoy's threads connects again
            await asyncio.sleep(0.05)
    assert (await shown(stack, "smallstall"))["size_from"] == "override"
    _, out, _ = await limits(stack, "show", "smallstall")
    assert out.splitlines()[-1].split()[:2] == [key, "500/s:500"]
    assert out.splitlines()[-1].endswith("ann  sale")
    assert (await limits(stack, "unset", key, "--reason", "over"))[0] == 0
    assert 429 in await paid(world, 5)
    audit = [line for line in (stack.logs / "ext_authz.log").read_text().splitlines() if "limit override" in line]
    fields = [json.loads(line) for line in audit]
    assert [one["event"] for one in fields][-2:] == ["limit override set", "limit override unset"]
    assert fields[-2]["actor"] == "ann"
    assert (fields[-2]["before"], fields[-2]["after"], fields[-2]["reason"]) == ("1/s:3", "500/s:500", "sale")


async def test_it_ends_by_itself(stack: LocalStack, world: World) -> None:
    assert (await limits(stack, "set", "per-merchant/smallstall", "500/s", "--for", "3s", "--reason", "x"))[0] == 0
    began = time.monotonic()
    assert await paid(world, 5) == [200] * 5
    await asyncio.sleep(max(0.0, 4 - (time.monotonic() - began)))
    assert 429 in await paid(world, 5)
    assert (await shown(stack, "smallstall"))["size_from"] == "merchant"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("set", "per-merchnt", "1/s", "--for", "1m", "--reason", "x"),
            "no rate limit 'per-merchnt' (known: per-merchant)",
        ),
        (("set", "per-merchant", "fast", "--for", "1m", "--reason", "x"), "'fast' is not a rate such as 200/s"),
        (("set", "per-merchant", "0/s", "--for", "1m", "--reason", "x"), "'0/s' is out of range"),
        (("set", "per-merchant", "1/s", "--for", "90d", "--reason", "x"), "an override lasts from 1 second to 30 days"),
        (("set", "per-merchant", "1/s", "--for", "1m", "--reason", " "), "a change needs a reason"),
        (("set", "per-merchant/a/b", "1/s", "--for", "1m", "--reason", "x"), "per-merchant is counted by merchant"),
        (
            ("set", "per-merchant/smallstal", "1/s", "--for", "1m", "--reason", "x"),
            "no merchant 'smallstal' in the documents",
        ),
        (("unset", "per-merchant/nobody", "--reason", "x"), "there is no override of this key"),
    ],
)
async def test_what_cannot_be_set_is_said(stack: LocalStack, arguments: tuple[str, ...], said: str) -> None:
    code, out, error = await limits(stack, *arguments)
    assert (code, out) == (2, "")
    assert error.startswith(said)


async def test_without_a_service_it_is_said_where_it_was_looked_for(stack: LocalStack) -> None:
    code, _, error = await limits(stack, "show", "smallstall", "--admin", "127.0.0.1:1")
    assert (code, error) == (2, "no ext_authz answers on 127.0.0.1:1 (--admin names another address)\n")
