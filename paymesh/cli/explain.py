"""Owns `paymesh explain`: what each step decided about one request, and why.

By request id it reads the services' JSON logs and Envoy's access log; with a FILE.http it runs the real steps offline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ext_authz.check_context import CheckContext, Decision
from ext_authz.pipeline import build_pipeline, decide, in_process_stores
from ext_authz.wire import refuse
from paymesh.cli.http_file import NotAnHttpRequest, read_http_file
from paymesh.payments.bodies.errors import BodyError
from paymesh.payments.fields.sanitize import sanitize_body
from paymesh.payments.policy.compiled import Route
from paymesh.payments.policy.load import load_policy
from paymesh.payments.policy.problems import PolicyErrors

if TYPE_CHECKING:
    from paymesh.cli.verbs import Verbs

_EVENTS = ("decision", "converted", "sanitized", "outcome", "access")
"""The log events that tell about a request, in the order in which they happen to it."""


def add_explain_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "explain",
        help="what each step decided about a request, and why",
        description="Explain one request: by the id in x-pay-request-id, or offline from a raw HTTP request in a file.",
    )
    parser.add_argument("request", metavar="REQUEST-ID | FILE.http")
    parser.add_argument("--logs", type=Path, default=Path(".paymesh/logs"), help="folder of the services' logs")
    parser.add_argument("--policy", action="append", type=Path, help="for FILE.http: policy file or folder; may repeat")
    parser.add_argument("--at", type=int, metavar="UNIX-SECONDS", help="for FILE.http: decide as of this time")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.request.endswith(".http"):
        return _explain_file(Path(args.request), args.policy or [Path("examples/demo")], args.at)
    return _explain_logged(args.request, args.logs)


def _explain_logged(request_id: str, folder: Path) -> int:
    records = sorted(
        (record for record in _read_logs(folder) if record.get("request_id") == request_id),
        key=lambda record: _EVENTS.index(str(record["event"])),
    )
    if not records:
        print(f"no trace of request {request_id} in {folder}/*.log", file=sys.stderr)
        return 1
    print(f"request {request_id}")
    for record in records:
        for line in _lines(record):
            print("  " + line)
    return 0


def _read_logs(folder: Path) -> Iterator[dict[str, object]]:
    for file in sorted(folder.glob("*.log*")):
        with file.open("r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                # Most lines are about other requests: look before parsing.
                if '"request_id"' not in line or not line.startswith("{"):
                    continue
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict) and record.get("event") in _EVENTS:
                    yield record


def _lines(record: dict[str, object]) -> Iterator[str]:
    if record["event"] == "access":
        shown = ("response_code", "upstream_cluster", "response_flags", "response_code_details", "duration_ms")
        facts = ", ".join(f"{name}={record[name]}" for name in shown if record.get(name) not in (None, "", "-"))
        yield _line("envoy", "answer", facts)
        return
    steps = record.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict):
            yield _line(str(step.get("step")), str(step.get("verdict")), str(step.get("why")))
    if record["event"] == "decision":
        reason = f" ({record['reason']})" if record.get("reason") else ""
        yield _line("=", f"{record.get('decision')}", f"policy {record.get('policy')}{reason}")


def _line(step: str, verdict: str, why: str) -> str:
    return f"{step:<11} {verdict:<12} {why}"


def _explain_file(file: Path, policy_paths: Iterable[Path], at: int | None) -> int:
    try:
        policy = load_policy(list(policy_paths), os.environ)
        request = read_http_file(file)
    except (PolicyErrors, NotAnHttpRequest, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    steps = build_pipeline(in_process_stores())
    context = CheckContext(
        request=request,
        policy=policy,
        now_s=int(time.time()) if at is None else at,
        monotonic_ns=time.monotonic_ns(),
    )
    decision = asyncio.run(decide(steps, context))
    _print_offline(file, decision)
    return 0


def _sanitized(context: CheckContext, route: Route) -> tuple[str, str]:
    """What ext_proc would do to the body."""
    request = context.request
    try:
        found = sanitize_body(
            request.body, request.header("content-type"), route.request_reading, route.sanitize_request, context.now_s
        )
    except BodyError as error:
        return "unavailable", str(error)
    return ("changed", ", ".join(map(str, found.changed))) if found.changed else ("pass", "nothing to change")


def _print_offline(file: Path, decision: Decision) -> None:
    print(f"{file}: {decision.context.request.method} {decision.context.request.path}")
    for record in decision.steps:
        print("  " + _line(record.step, record.verdict, record.why))
    if decision.denial is None:
        route, caller = decision.context.route, decision.context.caller
        assert route is not None
        if route.sanitize_request:
            print("  " + _line("sanitize", *_sanitized(decision.context, route)))
        print("  " + _line("=", "allow", f"as {caller.merchant.id}" if caller else "as nobody in particular"))
        return
    refusal = refuse(decision, decision.denial)
    print("  " + _line("=", "deny", f"{refusal.status} {refusal.body.decode()}"))
