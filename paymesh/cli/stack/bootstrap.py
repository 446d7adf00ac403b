"""Owns turning envoy/bootstrap.yaml into the one a local Envoy starts with: only its two ports change."""

from __future__ import annotations

from pathlib import Path

import yaml

_PACKAGED = Path(__file__).with_name("bootstrap.yaml")
_IN_CHECKOUT = Path(__file__).resolve().parents[3] / "envoy" / "bootstrap.yaml"


def bootstrap_file() -> Path:
    """The shipped bootstrap: the checkout's, or the copy that the wheel carries."""
    return _IN_CHECKOUT if _IN_CHECKOUT.exists() else _PACKAGED


def render_bootstrap(*, admin_port: int, xds_port: int, node_id: str = "paymesh-gateway") -> str:
    """The bootstrap as YAML with these ports."""
    document = yaml.safe_load(bootstrap_file().read_text(encoding="utf-8"))
    document["node"]["id"] = node_id
    document["admin"]["address"]["socket_address"]["port_value"] = admin_port
    cluster = document["static_resources"]["clusters"][0]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"]["port_value"] = xds_port
    return yaml.safe_dump(document, sort_keys=False)
