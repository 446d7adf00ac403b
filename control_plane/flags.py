"""Owns the control plane's flags, and what they mean. Refuses combinations that would mean something else."""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path

from control_plane.policy_distribution import Admission
from control_plane.settings import GatewaySettings, GatewayTls
from control_plane.xds.validation import Validator
from paymesh.payments.policy.upstreams import UpstreamTls
from paymesh.server.admin_port import add_admin_arguments
from paymesh.server.envoy_binary import EnvoyNotFound, find_envoy
from paymesh.server.policy_service import add_policy_argument
from paymesh.server.service import add_server_arguments
from paymesh.server.startup import StartupError, host_and_port

MIN_TOKEN_BYTES = 16


def parser() -> argparse.ArgumentParser:
    """Every flag of the control plane."""
    found = argparse.ArgumentParser(prog="control_plane", description="Turns the policy into what Envoy runs.")
    add = found.add_argument
    add_policy_argument(found)
    add_admin_arguments(found, "127.0.0.1:18001")
    add("--gateway", default="127.0.0.1:8080", metavar="IP:PORT", help="where Envoy listens for merchants")
    add("--gateway-tls-cert", metavar="FILE", help="PEM on Envoy's machine: merchants use TLS, with this certificate")
    add("--gateway-tls-key", metavar="FILE", help="PEM on Envoy's machine: its private key")
    add(
        "--gateway-tls-client-ca",
        metavar="FILE",
        help="PEM on Envoy's machine: what issued merchants' certificates",
    )
    add("--ext-authz", default="127.0.0.1:9001", metavar="IP:PORT,...", help="where Envoy finds ext_authz, each worker")
    add("--ext-proc", default="127.0.0.1:9002", metavar="IP:PORT,...", help="where Envoy finds ext_proc, each worker")
    add("--deciding-tls-ca", metavar="FILE", help="PEM on Envoy's machine: TLS to ext_authz and ext_proc, issued by it")
    add("--deciding-tls-name", default="paymesh", metavar="NAME", help="DNS name that their certificates must have")
    add("--deciding-tls-cert", metavar="FILE", help="PEM on Envoy's machine: what Envoy shows them (mTLS)")
    add("--deciding-tls-key", metavar="FILE", help="PEM on Envoy's machine: its private key")
    add("--health-events", metavar="FILE", help="on Envoy's machine: a line of JSON whenever a host's health changes")
    add("--access-log", default="/dev/stdout", metavar="FILE", help="Envoy's access log")
    add(
        "--envoy",
        type=Path,
        metavar="FILE",
        help="the Envoy that each policy is shown to first (default: the one found)",
    )
    add("--unvalidated", action="store_true", help="publish without asking an Envoy first")
    add(
        "--state",
        type=Path,
        default=Path(".paymesh/data"),
        help="folder of the recorded weights and the last good snapshot",
    )
    add(
        "--config-centre",
        action="store_true",
        help="the policy is what `paymesh config apply` recorded in --state; --policy is only what it begins with",
    )
    add("--policy-token", type=Path, metavar="FILE", help="services that ask for the policy show what stands in it")
    add(
        "--policy-reader",
        action="append",
        default=[],
        metavar="NAME",
        help="DNS name or URI in the certificate of a service that may have it (default: those of this machine)",
    )
    add_server_arguments(found, default_listen="127.0.0.1:18000")
    return found


def gateway_settings(args: argparse.Namespace) -> GatewaySettings:
    """Raises StartupError."""
    return GatewaySettings(
        _ip_and_port(args.gateway),
        _workers(args.ext_authz),
        _workers(args.ext_proc),
        args.access_log,
        _gateway_tls(args),
        _deciding_tls(args),
        args.health_events,
    )


def admission(args: argparse.Namespace) -> Admission:
    """Who gets the policy. Raises StartupError, OSError."""
    token = None
    if args.policy_token is not None:
        token = args.policy_token.read_bytes().strip()
        if len(token) < MIN_TOKEN_BYTES:
            raise StartupError(f"{args.policy_token}: a token has at least {MIN_TOKEN_BYTES} bytes")
    if args.policy_reader and args.tls_client_ca is None:
        raise StartupError("--policy-reader needs --tls-client-ca: a name counts where a certificate proves it")
    return Admission(token, frozenset(args.policy_reader))


def validator(args: argparse.Namespace) -> Validator | None:
    """What each policy is shown to; None: to nothing, as was asked for. Raises StartupError."""
    if args.unvalidated:
        return None
    try:
        return Validator(args.envoy or find_envoy())
    except EnvoyNotFound as error:
        raise StartupError(
            f"{error}. Every policy is shown to it before Envoys in service get it; --unvalidated goes without"
        ) from None


def _gateway_tls(args: argparse.Namespace) -> GatewayTls | None:
    files = [args.gateway_tls_cert, args.gateway_tls_key, args.gateway_tls_client_ca]
    if not any(files):
        return None
    if args.gateway_tls_cert is None or args.gateway_tls_key is None:
        raise StartupError("--gateway-tls-cert and --gateway-tls-key go together; --gateway-tls-client-ca needs both")
    return GatewayTls(*files)


def _deciding_tls(args: argparse.Namespace) -> UpstreamTls | None:
    files = (args.deciding_tls_cert, args.deciding_tls_key)
    if args.deciding_tls_ca is None:
        if any(files):
            raise StartupError("--deciding-tls-cert needs --deciding-tls-ca: whom to show it to")
        return None
    if (files[0] is None) != (files[1] is None):
        raise StartupError("--deciding-tls-cert and --deciding-tls-key go together")
    name = args.deciding_tls_name
    return UpstreamTls(args.deciding_tls_ca, (name,), name, *files)


def _workers(addresses: str) -> tuple[tuple[str, int], ...]:
    return tuple(_ip_and_port(address) for address in addresses.split(","))


def _ip_and_port(address: str) -> tuple[str, int]:
    """Envoy resolves no names here: it would refuse the listener, or the cluster."""
    host, port = host_and_port(address)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise StartupError(f"{address}: not IP:PORT") from None
    return host, port
