"""The trade service's books: one order a merchant and number, paid once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paymesh.cli.samples.orders import Books, Conflict

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "trade.sqlite")
    yield books
    books.close()


def test_a_repeated_order_is_the_same_order(books: Books) -> None:
    first = books.begin("teahouse", "1", "alipay", 100, "CNY")
    assert books.begin("teahouse", "1", "alipay", 100, "CNY") == first
    assert (first.state, first.paid_times) == ("NOTPAY", 0)


@pytest.mark.parametrize("changed", [("wechat", 100, "CNY"), ("alipay", 101, "CNY"), ("alipay", 100, "USD")])
def test_another_order_under_the_same_number_is_a_conflict(books: Books, changed: tuple[str, int, str]) -> None:
    first = books.begin("teahouse", "1", "alipay", 100, "CNY")
    with pytest.raises(Conflict):
        books.begin("teahouse", "1", *changed)
    assert books.find("teahouse", "1") == first


def test_merchants_do_not_share_numbers(books: Books) -> None:
    books.begin("teahouse", "1", "alipay", 100, "CNY")
    assert books.begin("bookshop", "1", "wechat", 7, "CNY").amount == 7
    assert books.find("stranger", "1") is None


def test_an_order_is_paid_once(books: Books, tmp_path: Path) -> None:
    books.begin("teahouse", "1", "alipay", 100, "CNY")
    assert not books.pay("bookshop", "1", "t-0")
    assert books.pay("teahouse", "1", "t-1")
    other_version = Books(tmp_path / "trade.sqlite")
    assert not other_version.pay("teahouse", "1", "t-2")
    order = other_version.find("teahouse", "1")
    other_version.close()
    assert order is not None
    assert (order.state, order.transaction_id, order.paid_times) == ("SUCCESS", "t-1", 1)


def test_both_versions_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from paymesh.cli.samples.orders import Books; Books(Path(sys.argv[1]))"
    )
    for number in range(3):
        command = [sys.executable, "-c", program, str(tmp_path / f"{number}.sqlite")]
        pair = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) for _ in range(2)]
        assert [process.wait(10) for process in pair] == [0, 0]
