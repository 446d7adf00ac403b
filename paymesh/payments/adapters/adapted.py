"""Owns a channel of the policy that speaks a provider's protocol through an adapter: which one, and as whom."""

from __future__ import annotations

from dataclasses import dataclass

from paymesh.payments.adapters.contract import Adapter, ChannelIdentity


@dataclass(frozen=True, slots=True)
class AdaptedChannel:
    """`host`: what the provider is asked under (`:authority`); empty: what the merchant asked for."""

    adapter: Adapter
    identity: ChannelIdentity
    host: str = ""
