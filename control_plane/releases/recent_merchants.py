"""Owns how much each merchant paid within the last hour: who would notice if traffic moved. Bounded: the merchants that
were silent longest make room for others."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from paymesh.payments.money import Money
from paymesh.payments.releases.exposure import Recent

KEPT_MINUTES = 60
MAX_MERCHANTS = 20_000
MAX_CURRENCIES = 8


@dataclass(slots=True)
class _Minute:
    at: int
    payments: int = 0
    amounts: Counter[str] = field(default_factory=Counter)


class RecentMerchants:
    """Of one service. Times are Unix seconds."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[str, deque[_Minute]] = OrderedDict()

    def add(self, merchant: str, money: Money | None, now_s: int) -> None:
        known = self._minutes.setdefault(merchant, deque())
        self._minutes.move_to_end(merchant)
        if not known or known[-1].at < now_s // 60:
            known.append(_Minute(now_s // 60))
        while known[0].at <= now_s // 60 - KEPT_MINUTES:
            known.popleft()
        minute = known[-1]
        minute.payments += 1
        if money is not None and (money.currency in minute.amounts or len(minute.amounts) < MAX_CURRENCIES):
            minute.amounts[money.currency] += money.amount
        if len(self._minutes) > MAX_MERCHANTS:
            self._minutes.popitem(last=False)

    def of_the_last_hour(self, now_s: int) -> Mapping[str, Recent]:
        """By merchant."""
        oldest, found = now_s // 60 - KEPT_MINUTES, {}
        for merchant, minutes in self._minutes.items():
            fresh = [minute for minute in minutes if minute.at > oldest]
            if fresh:
                amounts: Counter[str] = Counter()
                for minute in fresh:
                    amounts.update(minute.amounts)
                found[merchant] = Recent(sum(minute.payments for minute in fresh), dict(amounts))
        return found
