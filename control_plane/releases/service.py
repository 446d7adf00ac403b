"""Owns the releases' servicer: documents and commands in, what people read out; errors become gRPC statuses with a
message for a person."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import NoReturn, TypeAlias

import grpc

from control_plane.gateway import Gateway
from control_plane.releases import releases_pb2 as pb
from control_plane.releases import releases_pb2_grpc
from control_plane.releases.exposures import Exposures
from control_plane.releases.observed import Observed
from control_plane.releases.runner import ReleaseRunner, Router
from control_plane.releases.store import Release, ReleaseConflict, ReleaseStore, UnknownRelease
from control_plane.weights import InvalidWeights, checked_weights
from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.payments.releases.documents import located, read_plan, unknown_merchants
from paymesh.payments.releases.exposure import Exposure, Recent
from paymesh.payments.releases.history import Entry
from paymesh.payments.releases.plan import UnfitPlan
from paymesh.payments.releases.preview import preview
from paymesh.payments.releases.receipt import receipt
from paymesh.payments.releases.state import ENDING, OVER, Command, NotNow
from paymesh.payments.releases.traffic import TOTAL
from paymesh.payments.releases.words import fault_in_words, step_in_words
from paymesh.server.admin_access import actor_of

MAX_TEXT = 1_000
"""Characters of a reason or an actor."""
MAX_DOCUMENT = 1_000_000
MAX_MOVES = 1_000
"""Merchants that a preview names: those with the most payments."""
_STATUSES = range(500, 600)
"""Another one would be recorded as what the channel said of the payment (decision 0016)."""
_MAX_DELAY_MS = 60_000
Context: TypeAlias = grpc.aio.ServicerContext[pb.GetRequest, pb.Release]


class ReleasesService(releases_pb2_grpc.ReleasesServicer):  # type: ignore[misc]
    """`paymesh.releases.v1.Releases`."""

    def __init__(
        self,
        gateway: Gateway,
        runner: ReleaseRunner,
        router: Router,
        store: ReleaseStore,
        observed: Observed,
        exposures: Exposures,
    ) -> None:
        self._gateway = gateway
        self._runner = runner
        self._router = router
        self._store = store
        self._observed = observed
        self._exposures = exposures

    async def Apply(self, request: pb.ApplyRequest, context: Context) -> pb.Release:  # noqa: N802 - names of the .proto
        who = await _who(context, request.actor, request.reason)
        name = request.file_name or "(release)"
        if len(request.text) > MAX_DOCUMENT:
            await _refuse(context, f"{name}: longer than {MAX_DOCUMENT} characters")
        try:
            plan = await asyncio.to_thread(read_plan, name, request.text)
            policy = self._gateway.policy
            # With a table of merchants there may be more than the documents name.
            strange = [] if policy.merchant_table else unknown_merchants(request.text, policy.merchants)
            release = await self._runner.begin(plan, who, request.reason, strange)
        except PolicyErrors as errors:
            await _refuse(context, str(errors))
        except UnfitPlan as unfit:
            await _refuse(context, str(await asyncio.to_thread(located, name, request.text, unfit.problems)))
        except ReleaseConflict as error:
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error))
        self._exposures.begin(plan)
        return await self._shown(release)

    async def List(self, _: pb.ListRequest, __: Context) -> pb.ListResponse:  # noqa: N802
        found = self._runner.releases
        return pb.ListResponse(releases=[await self._shown(found[name]) for name in sorted(found)])

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Release:  # noqa: N802
        return await self._shown(await self._named(request.name, context))

    async def Tell(self, request: pb.TellRequest, context: Context) -> pb.Release:  # noqa: N802
        who = await _who(context, request.actor, request.reason)
        if request.command not in list(Command):
            await _refuse(context, f"command: one of {', '.join(Command)}")
        await self._named(request.name, context)
        try:
            release = await self._runner.tell(request.name, Command(request.command), who, request.reason)
        except (NotNow, ReleaseConflict) as error:
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, f"release {request.name}: {error}")
        if release.state.phase not in OVER:
            self._exposures.go_on(release.plan)
        return await self._shown(release)

    async def Drill(self, request: pb.DrillRequest, context: Context) -> pb.Release:  # noqa: N802
        who = await _who(context, request.actor, request.reason)
        await self._named(request.name, context)
        fault = await _fault(request, context)
        if fault is not None and not self._gateway.policy.gateway.allow_fault_injection:
            why = "the policy's gateway.allow_fault_injection is not true: this gateway never fails on purpose"
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, why)
        try:
            release = await self._runner.drill(request.name, fault, who, request.reason)
        except (NotNow, ReleaseConflict) as error:
            await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, f"release {request.name}: {error}")
        return await self._shown(release)

    async def History(self, request: pb.HistoryRequest, context: Context) -> pb.HistoryResponse:  # noqa: N802
        release = await self._named(request.name, context)
        entries = await asyncio.to_thread(self._store.history, request.name)
        return pb.HistoryResponse(entries=[_entry(one) for one in entries], steps=len(release.plan.steps))

    async def Preview(self, request: pb.PreviewRequest, context: Context) -> pb.PreviewResponse:  # noqa: N802
        service = self._gateway.policy.services.get(request.service)
        now = self._router.traffic(request.service)
        if service is None or now is None:
            known = ", ".join(sorted(self._gateway.policy.services)) or "none"
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"no service {request.service} (known: {known})")
        try:
            then = checked_weights(service, dict(request.weights))
        except InvalidWeights as error:
            await _refuse(context, str(error))
        seen = self._observed.recent_merchants(request.service)
        salt = now.rules.salt or service.split_salt
        return await asyncio.to_thread(_previewed, seen, salt, now.weights, then, request.salt)

    async def Receipt(self, request: pb.ReceiptRequest, context: Context) -> pb.ReceiptResponse:  # noqa: N802
        release = await self._named(request.name, context)
        entries = await asyncio.to_thread(self._store.history, request.name)
        return pb.ReceiptResponse(markdown=receipt(release.plan, entries, await self._exposures.of(release)))

    async def _named(self, name: str, context: Context) -> Release:
        try:
            return self._runner.get(name)
        except UnknownRelease:
            known = ", ".join(sorted(self._runner.releases)) or "none"
            await _abort(context, grpc.StatusCode.NOT_FOUND, f"no release {name} (known: {known})")

    async def _shown(self, release: Release) -> pb.Release:
        plan, state = release.plan, release.state
        actual = self._router.actual(plan.service)
        exposure = await self._exposures.of(release)
        ended = state.phase in OVER | ENDING
        return pb.Release(
            name=plan.name,
            service=plan.service,
            strategy=plan.kind,
            stable=plan.stable,
            target=plan.target,
            phase=state.phase,
            steps=[step_in_words(step) for step in plan.steps],
            step=state.step,
            set_weight=state.share,
            actual_weight=None if actual is None else actual.weights.get(plan.target),
            pins=0 if ended else len(plan.pins(state.pinned)),
            verdict=state.verdict or "",
            why=state.why,
            findings=[
                pb.Finding(check=one.rule, verdict=one.verdict, why=one.why) for one in self._runner.findings(plan.name)
            ],
            hold_until=state.hold_until_s or 0,
            traffic=[self._traffic(plan.service, version, seen) for version, seen in exposure.items()],
            drill="" if state.fault is None else fault_in_words(state.fault),
            over=state.phase in OVER,
            analysed=plan.analysed,
            changed_at=await asyncio.to_thread(self._store.changed_at, plan.name),
        )

    def _traffic(self, service: str, version: str, seen: Exposure) -> pb.VersionTraffic:
        samples = self._observed.samples(service, version)
        return pb.VersionTraffic(
            version=version,
            requests=seen.requests,
            errors=seen.errors,
            payments=seen.payments,
            payments_failed=seen.payments_failed,
            p99_ms=self._observed.p99_ms(service, version),
            amount=_money(seen.amounts),
            samples=[
                pb.Sample(at=one.at_s, requests=one.requests, errors=one.errors, p99_ms=one.p99_ms) for one in samples
            ],
        )


async def _abort(context: Context, code: grpc.StatusCode, why: str) -> NoReturn:
    await context.abort(code, why)
    raise AssertionError("abort raises")


async def _refuse(context: Context, why: str) -> NoReturn:
    await _abort(context, grpc.StatusCode.INVALID_ARGUMENT, why)


async def _who(context: Context, actor: str, reason: str) -> str:
    """Who it is recorded for; a change has a reason."""
    who = actor_of(actor)
    if len(reason) > MAX_TEXT or len(who) > MAX_TEXT:
        await _refuse(context, f"reason and actor take {MAX_TEXT} characters")
    if not reason.strip():
        await _refuse(context, "a reason is required: it is what history and receipt show")
    return who


async def _fault(request: pb.DrillRequest, context: Context) -> Fault | None:
    aborts, delays = request.abort_share > 0, request.delay_share > 0
    if max(request.abort_share, request.delay_share) > TOTAL:
        await _refuse(context, f"shares are of {TOTAL}")
    if aborts and request.abort_status not in _STATUSES:
        await _refuse(context, "abort_status: 500 to 599")
    if delays and not 0 < request.delay_ms <= _MAX_DELAY_MS:
        await _refuse(context, f"delay_ms: 1 to {_MAX_DELAY_MS}")
    if not aborts and not delays:
        return None
    return Fault(
        delay_ms=request.delay_ms if delays else None,
        delayed=request.delay_share,
        status=request.abort_status if aborts else None,
        aborted=request.abort_share,
    )


def _entry(entry: Entry) -> pb.Entry:
    after = entry.after
    return pb.Entry(
        at=entry.at_s, who=entry.who, what=entry.what, phase=after.phase, step=after.step, set_weight=after.share
    )


def _money(amounts: Mapping[str, int]) -> list[pb.Money]:
    return [pb.Money(currency=currency, amount=amounts[currency]) for currency in sorted(amounts)]


def _previewed(
    seen: Mapping[str, Recent], salt: str, now: Mapping[str, int], then: Mapping[str, int], new_salt: str
) -> pb.PreviewResponse:
    found = preview(seen, salt, now, then, new_salt)
    amounts: Counter[str] = Counter()
    for recent in seen.values():
        amounts.update(recent.amounts)
    return pb.PreviewResponse(
        versions=[
            pb.VersionShare(
                version=one.version,
                set_weight=one.set_weight,
                new_weight=one.new_weight,
                payments=one.payments,
                amount=_money(one.amounts),
            )
            for one in found.shares
        ],
        moves=[
            pb.Move(
                merchant=one.merchant,
                **{"from": one.now},
                to=one.then,
                payments=one.recent.payments,
                amount=_money(one.recent.amounts),
            )
            for one in found.moves[:MAX_MOVES]
        ],
        merchants_seen=len(seen),
        payments_seen=sum(one.payments for one in seen.values()),
        amount_seen=_money(amounts),
    )
