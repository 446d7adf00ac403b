"""Owns telling a release's hooks: before traffic moves, and when every node has it."""

from __future__ import annotations

from control_plane.releases.asking import ask_before, tell_after
from control_plane.releases.traffic_analyst import subject_of
from paymesh.payments.jose.fetch import HttpFetch
from paymesh.payments.releases.plan import Plan
from paymesh.payments.releases.state import State


class WebHooks:
    """`runner.HookCaller` over HTTP."""

    def __init__(self, fetch: HttpFetch) -> None:
        self._fetch = fetch

    async def before(self, plan: Plan, state: State) -> str:
        return await ask_before(self._fetch, plan.hooks, subject_of(plan, state, 0), state.seq)

    async def after(self, plan: Plan, state: State) -> str:
        return await tell_after(self._fetch, plan.hooks, subject_of(plan, state, 0), state.seq)
