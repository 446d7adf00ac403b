"""The verbs that need no running gateway, as a person types them: output, errors, exit codes."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from paymesh.cli.demo.signing import HmacMerchant
from paymesh.cli.http_file import NotAnHttpRequest, read_http_file
from paymesh.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[3]
DEMO = str(REPOSITORY / "examples" / "demo")
BODY = b'{"order_no": "A-1", "amount": {"total": 1000}, "product": "card", "payer": {"phone": "13812341234"}}'


@pytest.fixture(autouse=True)
def keys(demo_keys: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAYMESH_DEMO_KEYS", str(demo_keys))
    return demo_keys


def http_file(folder: Path, keys: Path, body: bytes = BODY, more: str = "", signed: bytes | None = None) -> Path:
    merchant = HmacMerchant.from_file("teahouse-2026", keys / "hmac_card.key")
    headers = merchant.headers("POST", "/v1/payments", body if signed is None else signed)
    lines = ["POST /v1/payments HTTP/1.1", "Host: gateway", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    file = folder / "payment.http"
    file.write_bytes(("\r\n".join(lines) + more + "\r\n\r\n").encode() + body)
    return file


def test_validate_says_what_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", DEMO]) == 0
    assert capsys.readouterr().out.startswith("valid: 25 routes, 5 merchants, 8 channels, 7 services")


def test_validate_names_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text("services: [{name: s}]\nchannels: [{name: c, service: s, prio: 1}]\n")
    assert main(["validate", str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{tmp_path}/bad.yaml:1: services[0].versions: is required",
        f"{tmp_path}/bad.yaml:2: channels[0].prio: unknown key",
        "refused: 2 problem(s)",
    ]


def test_explain_a_file_that_passes(tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(http_file(tmp_path, keys)), "--policy", DEMO]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [
        "route", "credential", "permission", "replay", "limits", "user",
        "fields", "channel", "limits_late", "head", "version", "order", "sanitize", "=",
    ]  # fmt: skip
    assert "card (priority 30) takes it" in shown
    assert "13812341234" not in shown


def test_explain_a_file_that_is_refused(tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(http_file(tmp_path, keys, signed=b"other")), "--policy", DEMO]) == 0
    shown = capsys.readouterr().out
    assert "hmac: signature mismatch" in shown
    assert '401 {"code":"credential_invalid"' in shown


def test_explain_decides_as_of_the_time_it_is_told(
    tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = http_file(tmp_path, keys)
    assert main(["explain", str(file), "--policy", DEMO, "--at", str(int(time.time()) + 1000)]) == 0
    assert "timestamp_expired" in capsys.readouterr().out


class TestVerify:
    def run(self, *arguments: str) -> int:
        return main(["verify", *arguments, "--policy", DEMO])

    def test_the_string_to_sign_is_printed_byte_for_byte(
        self, tmp_path: Path, keys: Path, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        file = http_file(tmp_path, keys)
        assert self.run(str(file), "--merchant", "teahouse") == 0
        shown = capfdbinary.readouterr().out
        request = read_http_file(file)
        stamp, nonce = request.headers["paymesh-timestamp"][0], request.headers["paymesh-nonce"][0]
        text = f"POST\n/v1/payments\n{stamp}\n{nonce}\n{hashlib.sha256(request.body).hexdigest()}\n".encode()
        assert b"-" * 72 + b"\n" + text + b"-" * 72 in shown
        assert b"verifies as teahouse, key teahouse-2026" in shown

    def test_the_first_byte_that_differs(self, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
        theirs = tmp_path / "theirs.txt"
        theirs.write_bytes(b"POST\n/v1/payment?")
        file = http_file(tmp_path, keys, signed=b"other")
        assert self.run(str(file), "--merchant", "teahouse", "--theirs", str(theirs)) == 1
        shown = capsys.readouterr().out
        assert "theirs    differs at byte 16" in shown
        assert "b's' (0x73)" in shown
        assert "b'?' (0x3f)" in shown
        assert "refused: signature mismatch" in shown

    def test_another_merchants_key(self, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(str(http_file(tmp_path, keys)), "--merchant", "smallstall") == 1
        shown = capsys.readouterr().out
        assert "belongs to teahouse, not to smallstall" in shown
        assert "verifies, but as merchant teahouse" in shown

    def test_what_cannot_be_checked_is_named(
        self, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = http_file(tmp_path, keys)
        assert self.run(str(file), "--merchant", "nobody") == 2
        assert "no merchant nobody" in capsys.readouterr().err
        file.write_bytes(b"GET /nowhere HTTP/1.1\r\n\r\n")
        assert self.run(str(file), "--merchant", "teahouse") == 2
        assert "no route matches GET /nowhere" in capsys.readouterr().err
        file.write_bytes(b"POST /v1/payments HTTP/1.1\r\n\r\n{}")
        assert self.run(str(file), "--merchant", "teahouse") == 2
        assert "no credential of hmac" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_explain_a_file_that_is_no_request(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.http"
    file.write_bytes(content)
    with pytest.raises(NotAnHttpRequest):
        read_http_file(file)
    assert main(["explain", str(file), "--policy", DEMO]) == 2
    assert str(file) in capsys.readouterr().err


def test_a_file_is_read_as_envoy_would_hold_it(tmp_path: Path) -> None:
    file = tmp_path / "x.http"
    file.write_bytes(b"GET http://pay.example/a?b=c HTTP/1.1\nX-Pay-Merchant: me\nTag: one\ntag: two\n\nbody\n")
    request = read_http_file(file)
    assert (request.method, request.target, request.body) == ("GET", "/a?b=c", b"body\n")
    assert request.headers == {"tag": ("one", "two")}


def test_explain_by_id_merges_the_logs_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = {"step": "observe", "verdict": "succeeded", "why": "status is SUCCEEDED"}
    decision = {"step": "route", "verdict": "pass", "why": "payments"}
    records = {
        "access": {"event": "access", "request_id": "r1", "response_code": 200, "upstream_cluster": "card|v1"},
        "ext_proc": {"event": "outcome", "request_id": "r1", "steps": [step]},
        "ext_authz": {
            "event": "decision",
            "request_id": "r1",
            "decision": "allow",
            "policy": "p1",
            "steps": [decision],
        },
        "other": {"event": "decision", "request_id": "r2", "decision": "deny", "steps": []},
    }
    for name, record in records.items():
        (tmp_path / f"{name}.log").write_text(f"not json\n{json.dumps(record)}\n{{broken\n")
    assert main(["explain", "r1", "--logs", str(tmp_path)]) == 0
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["request", "route", "=", "observe", "envoy"]
    assert main(["explain", "r3", "--logs", str(tmp_path)]) == 1
    assert "no trace of request r3" in capsys.readouterr().err


def test_set_weight_refuses_what_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    for bad in ("v1", "v1=", "v1=0.001", "v1=-1", "=5", "v1=5e1"):
        assert main(["set-weight", "trade", bad, "--reason", "x", "--admin", "127.0.0.1:1"]) == 2
        assert "VERSION=PERCENT" in capsys.readouterr().err
