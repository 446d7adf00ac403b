"""Owns who the person is, on routes that ask: any of the route's user providers may say so."""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.denial import Denial
from paymesh.payments.users.identify import UserIdentifier


@dataclass(frozen=True, slots=True)
class UserStep:
    identifier: UserIdentifier
    name: str = "user"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        route = context.route
        assert route is not None
        if not route.users:
            return context.having(why="the route asks for no user")
        providers = [context.policy.user_providers[name] for name in route.users]
        user = await self.identifier.identify_by_any(context.request, providers, context.now_s)
        if isinstance(user, Denial):
            return user
        return context.having(user=user, why=f"a user of {user.provider}")
