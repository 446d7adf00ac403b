"""Owns freshness: a signed timestamp inside its window, and a nonce that was not there before.

It stands after the credential: only who holds the key can learn about the window or fill the store.
"""

from __future__ import annotations

from dataclasses import dataclass

from ext_authz.check_context import CheckContext
from paymesh.payments.credentials.claim import OnRepeat
from paymesh.payments.denial import Denial, Reason
from paymesh.payments.nonces import NonceStore


@dataclass(frozen=True, slots=True)
class ReplayStep:
    nonces: NonceStore
    name: str = "replay"

    async def __call__(self, context: CheckContext) -> CheckContext | Denial:
        caller = context.caller
        if caller is None:
            return context.having(why="nothing signed")
        if caller.timestamp_s is None:
            return context.having(why=f"{caller.scheme} has no timestamp")
        age_s = context.now_s - caller.timestamp_s
        if abs(age_s) > caller.window_s:
            where = "in the past" if age_s > 0 else "in the future"
            return Denial(Reason.TIMESTAMP_EXPIRED, f"{abs(age_s)} s {where}; {caller.window_s} s are allowed")
        if caller.nonce is None:
            # Seconds are too coarse to tell two equal queries apart; equal payments meet in the order step.
            return context.having(why=f"{age_s} s old; {caller.scheme} has no nonce")
        # Kept until the timestamp itself is refused, however far in the future it was.
        expires_at_s = caller.timestamp_s + caller.window_s
        if await self.nonces.add(caller.nonce, expires_at_s, context.now_s):
            return context.having(why=f"{age_s} s old, nonce is new")
        if caller.on_repeat is OnRepeat.MARK:
            return context.having(replayed=True, why=f"{age_s} s old, repeated: marked as a replay")
        return Denial(Reason.NONCE_REPLAYED, "the nonce was used inside the window")
