"""The circuit breaker: opens after consecutive failures, closed by a probe only."""

from __future__ import annotations

from paymesh.payments.shared_state.breaker import Breaker, BreakerState


def test_it_opens_at_the_last_of_consecutive_failures() -> None:
    breaker = Breaker(3)
    assert [breaker.failed(at_once=False) for _ in range(2)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(at_once=False) for _ in range(4)] == [False, False, True, False]
    assert breaker.state is BreakerState.OPEN


def test_it_opens_at_once_when_told() -> None:
    breaker = Breaker(3)
    assert breaker.failed(at_once=True)
    assert not breaker.failed(at_once=True)


def test_a_late_success_does_not_close_it() -> None:
    breaker = Breaker(1)
    breaker.failed(at_once=False)
    breaker.succeeded()
    assert breaker.state is BreakerState.OPEN


def test_a_probe_closes_it_or_not() -> None:
    breaker = Breaker(2)
    breaker.failed(at_once=True)
    breaker.probing()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.failed(at_once=True)
    breaker.probed(well=False)
    assert breaker.state is BreakerState.OPEN
    breaker.probing()
    breaker.probed(well=True)
    assert breaker.state is BreakerState.CLOSED
    assert not breaker.failed(at_once=False)  # it begins to count anew
