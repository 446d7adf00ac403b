"""Owns the trade service's books: orders in one SQLite file that both versions share. Money is integer minor units."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    merchant TEXT NOT NULL, order_no TEXT NOT NULL, channel TEXT NOT NULL, amount INTEGER NOT NULL,
    currency TEXT NOT NULL, state TEXT NOT NULL, transaction_id TEXT, paid_times INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (merchant, order_no)
) STRICT
"""
_REFUNDS = """
CREATE TABLE IF NOT EXISTS refunds (
    merchant TEXT NOT NULL, order_no TEXT NOT NULL, refund_no TEXT NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (merchant, order_no, refund_no)
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Order:
    """`state` is NOTPAY, SUCCESS or CLOSED; `paid_times` counts the transitions to SUCCESS (never more than one)."""

    merchant: str
    order_no: str
    channel: str
    amount: int
    currency: str
    state: str
    transaction_id: str | None
    paid_times: int


class Conflict(Exception):  # noqa: N818 - it names what was found
    """The order number exists with another amount, currency or channel."""


class Books:
    """Blocking: call it in a thread. Without a file they are gone when the process is."""

    def __init__(self, file: Path | None) -> None:
        self._lock = threading.Lock()
        if file is None:
            self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._database.execute(_SCHEMA)
            self._database.execute(_REFUNDS)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(file, timeout=5, isolation_level=None, check_same_thread=False)
        # Both versions start at once on a new file, and SQLite's own timeout does not wait for a change of the journal
        # mode ("database is locked" in one start of eight): one after the other, then.
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(_SCHEMA)
            self._database.execute(_REFUNDS)
        self._database.execute("PRAGMA synchronous=NORMAL")

    def begin(self, merchant: str, order_no: str, channel: str, amount: int, currency: str) -> Order:
        """The order, made if it was not there. Raises Conflict if it is there and differs."""
        with self._lock:
            self._database.execute(
                "INSERT INTO orders (merchant, order_no, channel, amount, currency, state) "
                "VALUES (?, ?, ?, ?, ?, 'NOTPAY') ON CONFLICT DO NOTHING",
                (merchant, order_no, channel, amount, currency),
            )
        order = self.find(merchant, order_no)
        if order is None or (order.channel, order.amount, order.currency) != (channel, amount, currency):
            raise Conflict
        return order

    def find(self, merchant: str, order_no: str) -> Order | None:
        with self._lock:
            row = self._database.execute(
                "SELECT merchant, order_no, channel, amount, currency, state, transaction_id, paid_times "
                "FROM orders WHERE merchant = ? AND order_no = ?",
                (merchant, order_no),
            ).fetchone()
        return None if row is None else Order(*row)

    def all_orders(self) -> list[tuple[Order, int]]:
        """Every order, with what was refunded of it."""
        with self._lock:
            rows = self._database.execute(
                "SELECT merchant, order_no, channel, amount, currency, state, transaction_id, paid_times, coalesce("
                "(SELECT sum(amount) FROM refunds r WHERE r.merchant = o.merchant AND r.order_no = o.order_no), 0) "
                "FROM orders o ORDER BY merchant, order_no"
            ).fetchall()
        return [(Order(*row[:-1]), row[-1]) for row in rows]

    def find_paid(self, merchant: str, transaction_id: str) -> Order | None:
        """The paid order by the number that its channel gave it."""
        with self._lock:
            row = self._database.execute(
                "SELECT order_no FROM orders WHERE merchant = ? AND transaction_id = ?", (merchant, transaction_id)
            ).fetchone()
        return None if row is None else self.find(merchant, row[0])

    def pay(self, merchant: str, order_no: str, transaction_id: str) -> bool:
        """NOTPAY becomes SUCCESS; True if this call did it. Repeats change nothing."""
        with self._lock:
            changed = self._database.execute(
                "UPDATE orders SET state = 'SUCCESS', transaction_id = ?, paid_times = paid_times + 1 "
                "WHERE merchant = ? AND order_no = ? AND state = 'NOTPAY'",
                (transaction_id, merchant, order_no),
            ).rowcount
        return changed == 1

    def close_order(self, merchant: str, order_no: str) -> bool:
        """NOTPAY becomes CLOSED; True if the order is CLOSED now."""
        with self._lock:
            self._database.execute(
                "UPDATE orders SET state = 'CLOSED' WHERE merchant = ? AND order_no = ? AND state = 'NOTPAY'",
                (merchant, order_no),
            )
        order = self.find(merchant, order_no)
        return order is not None and order.state == "CLOSED"

    def refund(self, merchant: str, order_no: str, refund_no: str, amount: int) -> int | None:
        """Refund a paid order; returns the sum of its refunds. None if it is not paid, or more than was paid.

        The same `refund_no` again changes nothing; with another amount it is None.
        """
        with self._lock:
            # One statement decides and writes: two refunds at once, in two versions of trade, never exceed the order.
            self._database.execute(
                "INSERT INTO refunds SELECT o.merchant, o.order_no, ?, ? FROM orders o "
                "WHERE o.merchant = ? AND o.order_no = ? AND o.state = 'SUCCESS' AND ? + coalesce("
                "(SELECT sum(amount) FROM refunds r WHERE r.merchant = o.merchant AND r.order_no = o.order_no), 0) "
                "<= o.amount ON CONFLICT DO NOTHING",
                (refund_no, amount, merchant, order_no, amount),
            )
            row = self._database.execute(
                "SELECT sum(amount), max(CASE WHEN refund_no = ? AND amount = ? THEN 1 ELSE 0 END) "
                "FROM refunds WHERE merchant = ? AND order_no = ?",
                (refund_no, amount, merchant, order_no),
            ).fetchone()
        return row[0] if row[1] else None

    def close(self) -> None:
        with self._lock:
            self._database.close()
