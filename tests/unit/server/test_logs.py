"""What stands in a log line, and what never does."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from paymesh.payments.fields.pan import Pan
from paymesh.payments.secrets import Secret
from paymesh.server import logs
from paymesh.server.trace import parse_traceparent, set_trace

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END RSA PRIVATE KEY-----\n"
LOG = logging.getLogger("paymesh.test")


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger and the interpreter's hooks as pytest has them, afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
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
        {"absent": secret}["do-not-print-me"]
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


PAN, PHONE, RESIDENT, EMAIL = "6222021234567894", "13812341234", "11010519491231002X", "wang.wei@example.com"
PLANTED = (PAN, PHONE, RESIDENT, EMAIL)


@pytest.mark.parametrize("value", PLANTED)
def test_personal_data_is_masked_wherever_it_stands(lines: Any, value: str) -> None:
    logs.log(LOG, "fields", why=f"bad {value}", nested=[{"deep": (value, [f"x={value};"])}, {f"key {value}": 1}])
    logs.log(
        LOG, "encoded", path=f"/p?a={quote(value, safe='').replace('4', '%34')}", text=value.replace("1", "\\u0031")
    )
    LOG.error("event %s", value)
    LOG.error(
        "objects",
        extra={"fields": {"text": Path(f"/tmp/{value}"), "set": {value}, "object": object(), "e": Exception(value)}},
    )
    assert len(found := lines()) == 4
    assert value not in json.dumps(found, ensure_ascii=False)
    assert found[3]["object"] == "[object]"
    assert found[3]["e"] == "[Exception]"


def test_numbers_and_types_of_ours_are_masked(lines: Any) -> None:
    logs.log(
        LOG, "kinds", pan=Pan.parse(PAN), number=int(PHONE), kept=20_270_101, half=0.25, on=True, secret=Secret(b"s")
    )
    (line,) = lines()
    assert PHONE not in str(line["number"])
    assert PAN not in line["pan"]
    assert (line["kept"], line["half"], line["on"], line["secret"]) == (20_270_101, 0.25, True, "***")


def test_what_is_ours_by_construction_is_never_masked(lines: Any) -> None:
    ours = {
        "request_id": PHONE,
        "policy": PAN,
        "place": f"/x/{PHONE}.py:3",
        "merchant": PAN,
        "microseconds": int(PHONE),
    }
    logs.log(LOG, "decision", **ours)
    (line,) = lines()
    assert {name: line[name] for name in ours} == ours


def test_tokens_and_passwords_in_urls_are_masked(lines: Any) -> None:
    logs.log(LOG, "a", url="redis://user:hunter2@cache:6379/0", token="x eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln y")
    (line,) = lines()
    assert (line["url"], line["token"]) == ("redis://[credential]@cache:6379/0", "x [token] y")


def test_an_exception_is_told_by_type_and_places_never_by_its_text(lines: Any) -> None:
    try:
        try:
            int("张三")
        except ValueError as cause:
            raise ConnectionRefusedError(111, "cvv 123") from cause
    except OSError:
        LOG.exception("failed")
    (line,) = lines()
    assert line["error"][0] == "ConnectionRefusedError [ECONNREFUSED]"
    assert "ValueError" in line["error"]
    assert any("test_logs.py:" in place for place in line["error"])
    assert not {"张三", "cvv"} & set(re.findall(r"\w+", json.dumps(line, ensure_ascii=False)))


def test_a_library_is_quoted_without_what_it_talks_about(lines: Any) -> None:
    other = logging.getLogger("somebody.elses")
    other.error("%s failed after %d tries with %r", "张三", 3, {"cvv": "123"})
    other.error("Exception in callback pay('张三', cvv='123') at x.py\nmore 张三")
    other.error("%(name)s", {"name": "张三"})
    other.error(ValueError("张三"))
    assert [line["event"] for line in lines()] == [
        "[str] failed after 3 tries with [dict]",
        "Exception in callback pay[...] at x.py",
        "[str]",
        "ValueError",
    ]


async def test_asyncio_tells_of_a_lost_exception_without_its_text(lines: Any) -> None:
    async def lose(name: str) -> None:
        raise ValueError(name)

    task = asyncio.create_task(lose("张三"))
    await asyncio.wait([task])
    del task
    gc.collect()
    (line,) = lines()
    assert line["event"] == "Task exception was never retrieved"
    assert line["error"][0] == "ValueError"
    assert "张三" not in json.dumps(line, ensure_ascii=False)


CRASHES = {
    "main": "raise ValueError(value)",
    "thread": "t = threading.Thread(target=int, args=(value,)); t.start(); t.join()",
    "finaliser": "class F:\n    def __del__(self): raise ValueError(value)\nF()",
    "warning": "warnings.warn(value)",
    "group": "raise ExceptionGroup(value, [ValueError(value)])",
}


@pytest.mark.parametrize("code", CRASHES.values(), ids=CRASHES)
def test_what_python_itself_prints_is_one_line_without_values(code: str) -> None:
    start = "import threading, warnings\nfrom paymesh.server.logs import guard_crashes\nguard_crashes('tested')\n"
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", f"{start}value = 'cvv 123 of 13812341234'\n{code}"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    (line,) = (json.loads(text) for text in done.stderr.splitlines())
    assert line["service"] == "tested"
    assert (
        "ValueError" in line.get("error", [""])[0]
        or line.get("kind") == "UserWarning"
        or "with ValueError" in str(line)
    )
    assert "123" not in done.stderr.replace(line["ts"], "")


def test_what_json_cannot_write_is_still_a_line(lines: Any) -> None:
    logs.log(LOG, "odd", value={(1, 2): "skipped", "kept": {1}}, half="\ud800")
    (line,) = lines()
    assert line["half"] == "\ud800"
    assert line["value"] == {"kept": [1]}


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
