"""What stands in a log line, and what never does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from paymesh.payments.secrets import Secret
from paymesh.server import logs
from paymesh.server.trace import parse_traceparent, set_trace

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END RSA PRIVATE KEY-----\n"
LOG = logging.getLogger("test")


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger as pytest has it, afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    logs.stop_logging()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], restored: None) -> Any:
    """Starts logging; call it for the parsed lines."""
    logs.configure_logging("ext_authz", "info")

    def stop_and_read() -> list[dict[str, Any]]:
        logs.stop_logging()
        return [json.loads(line) for line in capsys.readouterr().err.split("\n") if line]

    return stop_and_read


def test_a_line_names_when_who_and_what(lines: Any) -> None:
    logs.log(LOG, "decision", request_id="r-1", allowed=True, nothing=None)
    (line,) = lines()
    assert line["ts"].endswith("Z")
    assert line["ts"][10] == "T"
    del line["ts"]
    assert line == {
        "level": "info", "service": "ext_authz", "event": "decision", "request_id": "r-1", "allowed": True,
    }  # fmt: skip


def test_fields_cannot_take_the_place_of_what_we_say(lines: Any) -> None:
    LOG.info("real", extra={"fields": {"event": "forged", "service": "forged", "trace_id": "forged"}})
    (line,) = lines()
    assert (line["event"], line["service"]) == ("real", "ext_authz")
    assert "trace_id" not in line


def test_a_caller_cannot_begin_a_line_of_its_own(lines: Any) -> None:
    logs.log(LOG, "decision", path='/a\n{"event": "forged"}\u2028')
    assert [line["event"] for line in lines()] == ["decision"]


async def test_each_task_logs_the_ids_of_its_own_trace(lines: Any) -> None:
    async def call(digit: str) -> None:
        set_trace(parse_traceparent(f"00-{digit * 32}-{digit * 16}-01"))
        await asyncio.sleep(0)
        LOG.info("call", extra={"fields": {"digit": digit}})

    await asyncio.gather(*(asyncio.create_task(call(digit)) for digit in "123"))
    LOG.info("outside")
    *calls, outside = lines()
    for line in calls:
        assert (line["trace_id"], line["span_id"]) == (line["digit"] * 32, line["digit"] * 16)
    assert "trace_id" not in outside


def test_a_secret_never_appears(lines: Any) -> None:
    secret = Secret(b"do-not-print-me")
    LOG.info("one", extra={"fields": {"secret": secret, "nested": [{"a": (secret,)}], "raw": secret.reveal()}})
    LOG.warning("two %s %r", secret, secret)
    try:
        {secret: 1}["absent"]
    except KeyError:
        LOG.exception("three")
    found = lines()
    assert [line["level"] for line in found] == ["info", "warning", "error"]
    assert "do-not-print-me" not in json.dumps(found)
    assert found[0]["raw"] == "[15 bytes]"


@pytest.mark.parametrize(
    "text",
    [KEY, KEY.replace("RSA ", ""), KEY.replace("RSA", "EC"), KEY.replace("RSA", "ENCRYPTED"), KEY[:60], f'"{KEY}"'],
    ids=["rsa", "pkcs8", "ec", "encrypted", "cut off", "in quotes"],
)
def test_a_private_key_is_masked_and_the_rest_stays(lines: Any, text: str) -> None:
    logs.log(LOG, "before", text=f"before {text}", after="after")
    LOG.error("cannot read %s", text)
    found = lines()
    assert found[0]["text"].removeprefix("before ").removeprefix('"').startswith("[private key]")
    assert found[0]["after"] == "after"
    assert "MIIEv" not in json.dumps(found)


def test_a_credential_in_an_error_is_masked(lines: Any) -> None:
    LOG.error('bad header Authorization: WECHATPAY2-SHA256-RSA2048 mchid="1",signature="abc+/="')
    LOG.error("bad header Authorization: bearer eyJhbGciOi.eyJz.c2ln")
    text = json.dumps(lines())
    assert "signature" not in text
    assert "eyJ" not in text


def test_what_json_cannot_write_is_still_a_line(lines: Any) -> None:
    logs.log(LOG, "odd", value={(1, 2): "skipped", "kept": {1}}, half="\ud800")
    (line,) = lines()
    assert line["half"] == "\ud800"
    assert line["value"] == {"kept": "{1}"}


def test_a_reader_that_stands_still_costs_lines_not_time(
    restored: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING_LINES", 5)
    monkeypatch.setattr(logs._Writer, "start", lambda self: None)
    monkeypatch.setattr(logs._Writer, "stop", lambda self: None)
    logs.configure_logging("ext_authz", "info")
    for _ in range(9):
        LOG.info("line")
    assert logs.dropped_lines() == 4
    logs.stop_logging()


def test_below_the_level_nothing_is_written(lines: Any) -> None:
    LOG.debug("detail")
    assert lines() == []
