"""The demo's keys: made once, private, and fit for the demo's policy."""

from __future__ import annotations

import stat
from pathlib import Path

from paymesh.cli.stack.demo_keys import SPLIT_MERCHANTS, ensure_demo_keys
from paymesh.cli.stack.local_stack import DEMO_POLICY
from paymesh.payments.policy.load import load_policy


def test_the_demo_policy_loads_with_them(tmp_path: Path) -> None:
    keys, generated = ensure_demo_keys(tmp_path)
    policy = load_policy([DEMO_POLICY, generated], {"PAYMESH_DEMO_KEYS": str(keys)})
    assert len(policy.merchants) == SPLIT_MERCHANTS + 5


def test_private_files_are_private(tmp_path: Path) -> None:
    keys, _ = ensure_demo_keys(tmp_path)
    readable = {file.name for file in keys.rglob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077}
    assert {"wechat_merchant_pub.pem", "wechat_platform_pub.pem", "unionpay_provider.crt"} <= readable
    assert all(name.endswith(("_pub.pem", ".crt", ".jwks.json")) for name in readable)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert len((keys / "wechat_apiv3.key").read_bytes()) == 32


def test_they_are_made_once_and_what_is_missing_is_made_again(tmp_path: Path) -> None:
    def contents() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    ensure_demo_keys(tmp_path)
    first = contents()
    ensure_demo_keys(tmp_path)
    assert contents() == first
    (tmp_path / "keys" / "wechat_platform.pem").unlink()
    (tmp_path / "keys" / "split" / "split-007.key").unlink()
    ensure_demo_keys(tmp_path)
    again = contents()
    assert again.keys() == first.keys()
    # A private key made anew has a public one that belongs to it.
    assert again[tmp_path / "keys" / "wechat_platform_pub.pem"] != first[tmp_path / "keys" / "wechat_platform_pub.pem"]
