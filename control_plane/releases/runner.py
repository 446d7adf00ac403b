"""Owns carrying releases out. What is to be done is read off the state that stands on disk, each time anew: a crash
between writing and doing is a moment like any other.

Weights are set through `Router` and asked back from it; the state moves on when every node has them. Refuses to let
weights of a service be set by hand while a release moves them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from control_plane.releases.store import Release, ReleaseConflict, ReleaseStore
from paymesh.payments.releases.plan import Plan, Weights, plan_problems
from paymesh.payments.releases.state import (
    MOVING,
    OVER,
    Applied,
    Begin,
    Command,
    DependenciesMet,
    Event,
    Judged,
    NotNow,
    Phase,
    State,
    Tick,
    Told,
    advance,
)

EVERY_S = 0.5
_LOG = logging.getLogger(__name__)
Judge = Callable[[Plan, State], Awaitable[Judged | None]]
"""What the analysis says now; None: nothing new."""
Ready = Callable[[str, str], Awaitable[bool]]
"""Whether the checks of a version of a service pass: what releases may depend on."""


class Router(Protocol):
    """Whatever splits the traffic: Envoys over xDS, or a mesh's own routes."""

    def versions(self, service: str) -> tuple[str, ...] | None:
        """In their order; None: there is no such service."""
        ...

    def set_weights(self, service: str) -> Weights:
        """What it was told last."""
        ...

    def actual_weights(self, service: str) -> Mapping[str, int] | None:
        """What every node has confirmed; None while they differ or there is none."""
        ...

    async def apply(self, service: str, weights: Weights, who: str, why: str) -> None:
        """Returns when it is recorded; the nodes follow. Setting the same again is harmless."""
        ...


class UnknownRelease(Exception):  # noqa: N818 - it names what was asked for
    """There is no release of this name."""


class ReleaseRunner:
    """One a control plane. Every change of a release happens under its lock."""

    def __init__(
        self, store: ReleaseStore, router: Router, judge: Judge, ready: Ready, clock_s: Callable[[], int]
    ) -> None:
        self._store = store
        self._router = router
        self._judge = judge
        self._ready = ready
        self._clock_s = clock_s
        self._lock = asyncio.Lock()

    async def begin(self, plan: Plan, who: str, why: str) -> Release:
        """Raises ReleaseConflict; ValueError with everything that is wrong with the plan."""
        async with self._lock:
            versions = self._router.versions(plan.service)
            problems = [f"no service {plan.service}"] if versions is None else plan_problems(plan, versions)
            if problems:
                raise ValueError("; ".join(problems))
            now_s = self._clock_s()
            state = advance(plan, State(), Begin(await self._depends_pass(plan), now_s)).state
            release = Release(plan, state)
            await asyncio.to_thread(self._store.begin, release, who, why, now_s)
            return release

    async def tell(self, name: str, command: Command, who: str, why: str) -> Release:
        """A person's command. Raises UnknownRelease, NotNow, ReleaseConflict."""
        async with self._lock:
            release = (await asyncio.to_thread(self._store.all)).get(name)
            if release is None:
                raise UnknownRelease(name)
            told = Told(command, who, why, self._clock_s())
            return await self._happens(release, told, who, f"{command}: {why}")

    async def run(self) -> None:
        """Carry on with every release, until cancelled."""
        while True:
            try:
                await self.run_once()
            except Exception as error:  # one release's trouble must not end the others' care
                _LOG.exception("releases not carried on", extra={"fields": {"error": type(error).__name__}})
            await asyncio.sleep(EVERY_S)

    async def run_once(self) -> None:
        async with self._lock:
            for release in (await asyncio.to_thread(self._store.all)).values():
                if release.state.phase not in OVER:
                    await self._carry_on(release)

    async def moving(self, service: str) -> str | None:
        """The release that moves this service's weights now: nobody else may."""
        found = (await asyncio.to_thread(self._store.all)).values()
        return next(
            (one.plan.name for one in found if one.plan.service == service and one.state.phase not in OVER), None
        )

    async def _carry_on(self, release: Release) -> None:
        plan, state = release.plan, release.state
        now_s = self._clock_s()
        if state.phase is Phase.WAITING:
            if await self._depends_pass(plan):
                await self._happens(release, DependenciesMet(now_s), "paymesh", "what it depends on has passed")
            return
        judged = await self._judge(plan, state)
        if judged is not None:
            release = await self._happens(release, judged, "analysis", f"{judged.verdict}: {judged.why}")
            state = release.state
        if state.phase not in MOVING:
            await self._happens(release, Tick(now_s), "paymesh", "the hold is over")
            return
        versions = self._router.versions(plan.service)
        if versions is None:
            return  # the policy has lost the service: nothing can be moved until it is back
        wanted = plan.weights(versions, state.share)
        if dict(self._router.set_weights(plan.service)) != wanted:
            why = f"release {plan.name}: {state.phase}, step {state.step + 1}, change {state.seq}"
            await self._router.apply(plan.service, wanted, f"release {plan.name}", why)
        elif self._router.actual_weights(plan.service) == wanted:
            await self._happens(release, Applied(state.seq, now_s), "paymesh", "every node has the weights")

    async def _happens(self, release: Release, event: Event, who: str, what: str) -> Release:
        """The release after the event, on disk before anything is done about it. Raises NotNow, ReleaseConflict."""
        after = advance(release.plan, release.state, event).state
        if after == release.state:
            return release
        name = release.plan.name
        await asyncio.to_thread(self._store.change, name, release.state, after, who, what, self._clock_s())
        _LOG.info("release", extra={"fields": {"release": name, "phase": str(after.phase), "why": what}})
        return Release(release.plan, after)

    async def _depends_pass(self, plan: Plan) -> bool:
        return all([await self._ready(service, version) for service, version in plan.depends_on])


__all__ = ["EVERY_S", "NotNow", "ReleaseConflict", "ReleaseRunner", "Router", "UnknownRelease"]
