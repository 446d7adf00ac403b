"""Which ports the stack takes, and what is said when one is not free."""

from __future__ import annotations

import argparse
import asyncio
import socket
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from paymesh.cli.stack.local_stack import DEMO_POLICY, LocalStack, StackError, StackOptions
from paymesh.cli.stack.ports import Ports, taken
from paymesh.cli.up import add_stack_arguments, add_up_parser, stack_options


def test_random_ports_are_free_and_differ() -> None:
    ports = Ports.random()
    assert len(set(astuple(ports))) == len(astuple(ports))
    assert taken(ports) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_flag(host: str) -> None:
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        ports = replace(Ports.random(), ext_authz=port)
        assert taken(ports) == [f"port {port} is taken: --ext-authz-port chooses another"]


def test_one_port_for_two_parts_is_named() -> None:
    ports = Ports.random()
    assert taken(replace(ports, card=ports.gateway)) == [f"--card-port and --gateway-port are both {ports.gateway}"]


async def test_nothing_starts_when_a_port_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        stack = LocalStack(StackOptions(run_dir=tmp_path, ports=replace(Ports.random(), xds=other.getsockname()[1])))
        with pytest.raises(StackError, match="--xds-port chooses another"):
            async with asyncio.timeout(5), stack:
                raise AssertionError("started")
    assert not (tmp_path / "logs").exists()


def test_flags_choose_ports_policy_and_folder() -> None:
    parser = argparse.ArgumentParser()
    add_stack_arguments(parser)
    options = stack_options(parser.parse_args(["--gateway-port", "8081", "--policy", "a", "--policy", "b"]))
    assert options.ports == replace(Ports(), gateway=8081)
    assert options.policy == (Path("a"), Path("b"))
    assert stack_options(parser.parse_args([])).policy == (DEMO_POLICY,)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "8080.0"])
def test_what_is_no_port_is_a_usage_error(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_up_parser(parser.add_subparsers())
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["up", f"--gateway-port={port}"])
    assert stopped.value.code == 2
    assert "is not a port (1 to 65535)" in capsys.readouterr().err
