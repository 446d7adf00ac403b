"""Owns carrying releases out: what is to be done is read off each one's state, which is on disk before anything is done
about it. A crash between writing and doing is a moment like any other.

Traffic is moved through `Router` and asked back from it; the state moves on when every node has it. Others are asked
(analysis, hooks) beside, never under the lock: whoever aborts waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from control_plane.releases.asides import Asides
from control_plane.releases.store import Release, ReleaseConflict, ReleaseStore, UnknownRelease
from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.forwarding import Fault
from paymesh.payments.releases.analysis import Finding, Verdict, overall
from paymesh.payments.releases.history import Entry
from paymesh.payments.releases.plan import Plan, Problem, UnfitPlan, plan_problems
from paymesh.payments.releases.state import (
    ENDING,
    OVER,
    Applied,
    Begin,
    Command,
    DependenciesMet,
    Drilled,
    Event,
    HooksTold,
    Judged,
    Noted,
    NotNow,
    Phase,
    State,
    Tick,
    Told,
    advance,
    traffic,
)
from paymesh.payments.releases.traffic import TOTAL, Traffic
from paymesh.payments.releases.words import step_number

EVERY_S = 0.25
MAX_WHY = 1_000
"""Characters."""
TELL_AGAIN_S = (1, 2, 4, 8, 16, 30, 60, 60, 60, 60)
"""Between tries to tell a hook what has been done: five minutes in all."""
_ASK_AGAIN_S = 2
_ASKED_FOR = frozenset({Phase.APPLYING, Phase.PROMOTING})
"""Changes that hooks may hold up: never the way back."""
_OURS = "paymesh"
_LOG = logging.getLogger(__name__)


class Router(Protocol):
    """Whatever splits the traffic: Envoys over xDS, or a mesh's own routes. tests/contract holds all to one suite."""

    def versions(self, service: str) -> tuple[str, ...] | None:
        """In their order; None: there is no such service."""
        ...

    def traffic(self, service: str) -> Traffic | None:
        """What it was told last; None: there is no such service."""
        ...

    def actual(self, service: str) -> Traffic | None:
        """What every node has confirmed; None while they differ or there is none."""
        ...

    def refused(self, service: str) -> str:
        """What a node said no with to what it was told last; empty: none did."""
        ...

    async def apply(self, service: str, wanted: Traffic, who: str, why: str) -> None:
        """Returns when it is recorded; the nodes follow. Setting the same again is harmless."""
        ...


class Analyst(Protocol):
    """Who looks at how the target does."""

    def unhealthy(self, plan: Plan, state: State) -> str:
        """Why the target cannot take traffic at all; empty: it can. Asks nobody."""
        ...

    async def look(self, plan: Plan, state: State) -> list[Finding]:
        """What every check of the plan says of the state's step; raises nothing for what others do."""
        ...


class HookCaller(Protocol):
    """Who tells other systems."""

    async def before(self, plan: Plan, state: State) -> str:
        """Empty: all agree that this change is made. Else who does not."""
        ...

    async def after(self, plan: Plan, state: State) -> str:
        """Empty: all were told that this change has been made. Else who was not."""
        ...


class ReleaseRunner:
    """One a control plane. Every change of a release happens under its lock. `clock_s`: Unix seconds."""

    def __init__(
        self, store: ReleaseStore, router: Router, analyst: Analyst, hooks: HookCaller, clock_s: Callable[[], int]
    ) -> None:
        """Raises sqlite3.Error, ValueError for releases that this version cannot read."""
        self._store = store
        self._router = router
        self._analyst = analyst
        self._hooks = hooks
        self._clock_s = clock_s
        self._lock = asyncio.Lock()
        self._releases = store.all()
        self._looks, self._befores, self._afters = Asides[list[Finding]](), Asides[str](), Asides[str]()
        self._looked_at_s: dict[str, int] = {}
        self._agreed: dict[str, int] = {}
        """The change of each release that its hooks agreed to last."""
        self._findings: dict[str, list[Finding]] = {}

    @property
    def releases(self) -> Mapping[str, Release]:
        """All that there ever were, by name."""
        return self._releases

    def get(self, name: str) -> Release:
        """Raises UnknownRelease."""
        found = self._releases.get(name)
        if found is None:
            raise UnknownRelease(name)
        return found

    def findings(self, name: str) -> list[Finding]:
        """What the analysis said last, check by check."""
        return self._findings.get(name, [])

    def moving(self, service: str) -> Release | None:
        """The release that moves this service's traffic now."""
        found = (one for one in self._releases.values() if one.plan.service == service and not _over(one))
        return next(found, None)

    @contextlib.asynccontextmanager
    async def nothing_moves(self, service: str) -> AsyncIterator[None]:
        """Meanwhile no release begins. Raises ReleaseConflict while one of this service is under way."""
        async with self._lock:
            release = self.moving(service)
            if release is not None:
                raise ReleaseConflict(f"release {release.plan.name} of {service} is under way: it sets the weights")
            yield

    def needs(self, policy: Policy) -> list[str]:
        """Why this policy cannot take over: releases under way would lose what they move."""
        found = []
        for name, release in self._releases.items():
            if _over(release):
                continue
            plan, service = release.plan, policy.services.get(release.plan.service)
            versions = () if service is None else tuple(version.name for version in service.versions)
            lost = [version for version in (plan.stable, plan.target) if version not in versions]
            if lost:
                found.append(f"service {plan.service}: release {name} is under way, and needs {', '.join(lost)}")
        return found

    async def begin(self, plan: Plan, who: str, why: str, known: Sequence[Problem] = ()) -> Release:
        """`known`: what is wrong with it that whoever calls saw. Raises ReleaseConflict, UnfitPlan."""
        async with self._lock:
            problems = [*self._problems(plan), *known]
            if problems:
                raise UnfitPlan(problems)
            self._refuse_to_start(plan)
            now_s = self._clock_s()
            state = advance(plan, State(), Begin(self._depends_pass(plan), now_s))
            release = Release(plan, state)
            await asyncio.to_thread(self._store.begin, release, who, why, now_s)
            self._start_anew(plan.name)
            self._releases = {**self._releases, plan.name: release}
            return release

    async def tell(self, name: str, command: Command, who: str, why: str) -> Release:
        """A person's command. Raises UnknownRelease, NotNow, ReleaseConflict."""
        async with self._lock:
            release = self.get(name)
            if command in (Command.UNDO, Command.RETRY) and release.state.phase in OVER:
                self._refuse_to_move_on(release)
            # What is being looked at was looked at before the command.
            self._looks.forget(name)
            self._looked_at_s.pop(name, None)
            return await self._happens(release, Told(command, who, why, self._clock_s()), who, f"{command}: {why}")

    async def drill(self, name: str, fault: Fault | None, who: str, why: str) -> Release:
        """Have the target's requests fail on purpose; None: no longer. Raises UnknownRelease, NotNow."""
        async with self._lock:
            what = "the drill ends" if fault is None else "a drill"
            return await self._happens(self.get(name), Drilled(fault, who, why), who, f"{what}: {why}")

    async def run(self) -> None:
        """Carry on with every release, until cancelled."""
        try:
            while True:
                await self.run_once()
                await asyncio.sleep(EVERY_S)
        finally:
            for asides in (self._looks, self._befores, self._afters):
                asides.close()

    async def run_once(self) -> None:
        """What is to be done now, of every release. One's trouble does not end the others' care."""
        for name in self._releases:
            try:
                async with self._lock:
                    await self._carry_on(self._releases[name])
            except Exception as error:
                _LOG.exception(
                    "a release is not carried on", extra={"fields": {"release": name, "error": type(error).__name__}}
                )

    def _start_anew(self, name: str) -> None:
        for asides in (self._looks, self._befores, self._afters):
            asides.forget(name)
        for known in (self._looked_at_s, self._agreed, self._findings):
            known.pop(name, None)

    def _problems(self, plan: Plan) -> list[Problem]:
        versions = self._router.versions(plan.service)
        if versions is None:
            return [(("service",), f"there is no service {plan.service}")]
        unknown = [
            (("depends_on", index), f"there is no {service}@{version}")
            for index, (service, version) in enumerate(plan.depends_on)
            if version not in (self._router.versions(service) or ())
        ]
        return [*plan_problems(plan, versions), *unknown]

    def _refuse_to_start(self, plan: Plan) -> None:
        """Raises ReleaseConflict where the traffic is not as the plan takes it to be."""
        now = self._router.traffic(plan.service)
        if now is None or now.weights.get(plan.stable) != TOTAL:
            raise ReleaseConflict(f"{plan.service}: {plan.stable} has not all of the traffic; set its weight to 100")
        refused = self._router.refused(plan.service)
        if refused:
            raise ReleaseConflict(f"Envoys refuse what they have been told: {refused}")

    def _refuse_to_move_on(self, release: Release) -> None:
        """Raises NotNow where somebody has moved the traffic since the release was over."""
        now, share = self._router.traffic(release.plan.service), release.state.share
        versions = self._router.versions(release.plan.service) or ()
        if now is None or dict(now.weights) != release.plan.weights(versions, share):
            raise NotNow(f"the weights of {release.plan.service} were changed since it was {release.state.phase}")

    async def _carry_on(self, release: Release) -> None:
        if not _over(release):
            release = await self._carry_on_with(release)
        await self._tell_after(release)

    async def _carry_on_with(self, release: Release) -> Release:
        now_s = self._clock_s()
        if release.state.phase is Phase.WAITING:
            if self._depends_pass(release.plan):
                met = DependenciesMet(now_s)
                return await self._happens(release, met, _OURS, "what it depends on has passed")
            return release
        release = await self._judge(release)
        if release.state.pending:
            return await self._move(release)
        over = "the orders' time is over" if release.state.phase is Phase.DRAINING else "the hold is over"
        return await self._happens(release, Tick(now_s), _OURS, over)

    async def _judge(self, release: Release) -> Release:
        plan, state = release.plan, release.state
        if not state.has_traffic or (state.phase in ENDING and state.phase is not Phase.PROMOTING):
            return release
        why = self._router.refused(plan.service) or self._analyst.unhealthy(plan, state)
        if why:
            failed = Judged(Verdict.FAIL, why, None, self._clock_s())
            return await self._happens(release, failed, "analysis", f"{Verdict.FAIL}: {why}")
        if plan.analysis is None:
            return release
        seen = self._looks.take(plan.name)
        if seen is not None:
            step, findings = seen
            self._findings[plan.name] = findings
            judged = _judged(findings, step, self._clock_s())
            if state.pending and judged.verdict is not Verdict.FAIL:
                return release  # not every node has what it would be said of
            release = await self._happens(release, judged, "analysis", f"{judged.verdict}: {judged.why}")
        now_s = self._clock_s()
        if now_s - self._looked_at_s.get(plan.name, 0) >= plan.analysis.every_s:
            self._looked_at_s[plan.name] = now_s
            self._looks.start(plan.name, release.state.step, self._analyst.look(plan, release.state))
        return release

    async def _move(self, release: Release) -> Release:
        plan, state = release.plan, release.state
        versions = self._router.versions(plan.service)
        if versions is None or not {plan.stable, plan.target} <= set(versions):
            # Only after a start with another policy: nothing can be moved until they are back.
            why = f"the policy has not both versions of {plan.service}: {plan.stable} and {plan.target}"
            return await self._happens(release, Noted(why), _OURS, why)
        wanted = traffic(plan, versions, state)
        if not _same(self._router.traffic(plan.service), wanted):
            if state.phase in _ASKED_FOR and plan.hooks.before and self._agreed.get(plan.name) != state.seq:
                return await self._ask_before(release)
            why = f"{state.phase}, step {step_number(plan, state.step)}, change {state.seq}: {state.why}"
            await self._router.apply(plan.service, wanted, f"release {plan.name}", why[:MAX_WHY])
        elif _same(self._router.actual(plan.service), wanted):
            applied = Applied(state.seq, self._clock_s())
            return await self._happens(release, applied, _OURS, "every node has the traffic asked for")
        return release

    async def _ask_before(self, release: Release) -> Release:
        """Whether others agree that traffic moves. A no is asked about again, and shown meanwhile."""
        plan, state = release.plan, release.state
        said = self._befores.take(plan.name)
        if said is not None and said == (state.seq, ""):
            self._agreed[plan.name] = state.seq
            return release
        if said is not None:
            why = f"waits for hooks: {said[1]}"
            release = await self._happens(release, Noted(why), _OURS, why)
        if not self._befores.under_way(plan.name):
            wait_s = 0 if said is None else _ASK_AGAIN_S
            self._befores.start(plan.name, state.seq, _later(wait_s, lambda: self._hooks.before(plan, state)))
        return release

    async def _tell_after(self, release: Release) -> None:
        """Every change that all nodes have is told once, in order, again until it arrives or is given up."""
        plan, state = release.plan, release.state
        if not plan.hooks.after or state.hooked >= state.applied:
            return
        said = self._afters.take(plan.name)
        if said is not None:
            seq, failed = said
            if failed:
                _LOG.warning("hooks not told", extra={"fields": {"release": plan.name, "change": seq, "why": failed}})
            told = HooksTold(seq)
            await self._happens(release, told, _OURS, f"hooks of change {seq}: {failed or 'told'}")
            return
        if not self._afters.under_way(plan.name):
            entries = await asyncio.to_thread(self._store.history, plan.name)
            seq, changed = _next_applied(entries, state)
            self._afters.start(plan.name, seq, _until_told(lambda: self._hooks.after(plan, changed)))

    async def _happens(self, release: Release, event: Event, who: str, what: str) -> Release:
        """The release after the event, on disk before anything is done about it. Raises NotNow, ReleaseConflict."""
        after = advance(release.plan, release.state, event)
        if after == release.state:
            return release
        name = release.plan.name
        await asyncio.to_thread(self._store.change, name, release.state, after, who, what, self._clock_s())
        changed = Release(release.plan, after)
        self._releases = {**self._releases, name: changed}
        _LOG.info(
            "release",
            extra={"fields": {"release": name, "phase": str(after.phase), "step": after.step, "who": who, "why": what}},
        )
        return changed

    def _depends_pass(self, plan: Plan) -> bool:
        return all(self._passes(service, version) for service, version in plan.depends_on)

    def _passes(self, service: str, version: str) -> bool:
        """It has all the traffic, or a release of it that leads there, or nowhere, found nothing wrong with it."""
        now = self._router.traffic(service)
        if now is None or now.weights.get(version) == TOTAL:
            return now is not None
        release = self.moving(service)
        if release is None or release.plan.target != version:
            return False
        passed = release.plan.analysis is None or release.state.verdict is Verdict.PASS
        return release.state.phase is Phase.ISOLATED and passed


def _over(release: Release) -> bool:
    return release.state.phase in OVER


def _same(one: Traffic | None, other: Traffic) -> bool:
    return one is not None and dict(one.weights) == dict(other.weights) and one.rules == other.rules


def _judged(findings: list[Finding], step: int, now_s: int) -> Judged:
    """All together: the worst counts, and is named."""
    verdict = overall(findings)
    named = [f"{one.rule}: {one.why}" for one in findings if one.verdict is verdict]
    return Judged(verdict, "; ".join(named), step, now_s)


def _next_applied(entries: Sequence[Entry], state: State) -> tuple[int, State]:
    """The first change that hooks were not told of and every node has, and how it was asked for."""
    begun = max(index for index, entry in enumerate(entries) if entry.before is None)
    applied = {entry.after.applied for entry in entries[begun:]}
    seq = min(one for one in applied if one > state.hooked)
    return seq, next(entry.after for entry in entries[begun:] if entry.after.seq == seq)


async def _later(wait_s: float, work: Callable[[], Awaitable[str]]) -> str:
    await asyncio.sleep(wait_s)
    return await work()


async def _until_told(tell: Callable[[], Awaitable[str]]) -> str:
    """Empty, or why it was given up in the end."""
    for wait_s in TELL_AGAIN_S:
        if not (failed := await tell()):
            return ""
        await asyncio.sleep(wait_s)
    return f"given up: {failed}"
