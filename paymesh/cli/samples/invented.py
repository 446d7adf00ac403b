"""Owns the codes and numbers that simulators invent: the same for the same order, and nobody's real ones."""

from __future__ import annotations

import hashlib


def token(order_no: str) -> str:
    """Sixteen characters for the end of a QR code's address."""
    return hashlib.sha256(order_no.encode()).hexdigest()[:16]


def wechat_number(merchant: str, order_no: str) -> str:
    """`transaction_id`: 28 digits."""
    return f"42000{_digits(merchant, order_no):023}"[:28]


def alipay_number(merchant: str, order_no: str) -> str:
    """`trade_no`: 28 digits."""
    return f"2026112222{_digits(merchant, order_no):018}"[:28]


def unionpay_number(merchant: str, order_no: str) -> str:
    """`queryId`: 21 digits."""
    return f"{_digits(merchant, order_no):021}"[:21]


def _digits(merchant: str, order_no: str) -> int:
    return int(hashlib.sha256(f"{merchant} {order_no}".encode()).hexdigest()[:18], 16)
