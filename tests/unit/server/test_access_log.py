"""What is read of an entry of Envoy's access log, and that listeners do not hold up each other or the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3 import als_pb2
from prometheus_client import CollectorRegistry

from paymesh.payments import internal_names as names
from paymesh.server.access_log import FLAGS, MAX_AT_ONCE, AccessLogReceiver, Finished, Listener, read_entry

SECRET = "6222020000000044"
"""What a listener's exception may hold."""


def entry(request_id: str = "", decision: dict[str, Any] | None = None) -> accesslog_pb2.HTTPAccessLogEntry:
    made = accesslog_pb2.HTTPAccessLogEntry()
    made.request.request_id = request_id
    if decision is not None:
        made.common_properties.metadata.filter_metadata[names.AUTHZ_FILTER].update(decision)
    return made


class TestReading:
    def test_an_empty_entry_says_nothing(self) -> None:
        assert read_entry(entry()) == Finished("", 0, frozenset(), 0.0, None, "", False, {}, "")

    def test_a_whole_one(self) -> None:
        made = entry("id-1", {"decision": "allow", "route": "payments"})
        made.response.response_code.value = 200
        common = made.common_properties
        common.upstream_cluster = "card|v1"
        common.upstream_remote_address.socket_address.address = "127.0.0.1"
        common.time_to_first_upstream_tx_byte.FromTimedelta(timedelta(milliseconds=1))
        common.time_to_last_upstream_tx_byte.FromTimedelta(timedelta(milliseconds=3))
        common.time_to_first_upstream_rx_byte.FromTimedelta(timedelta(milliseconds=1503))
        common.time_to_last_downstream_tx_byte.FromTimedelta(timedelta(seconds=2, milliseconds=250))
        common.duration.FromTimedelta(timedelta(seconds=3))
        observed = {names.META_OUTCOME: "refused", names.META_FAULT: "payer"}
        common.metadata.filter_metadata[names.OUTCOME_NAMESPACE].update(observed)
        found = read_entry(made)
        assert found.service_s == pytest.approx(1.5)
        assert found == Finished(
            request_id="id-1",
            status=200,
            flags=frozenset(),
            duration_s=2.25,
            service_s=found.service_s,
            upstream_cluster="card|v1",
            reached_service=True,
            decision={"decision": "allow", "route": "payments"},
            outcome="refused",
            fault="payer",
        )

    @pytest.mark.parametrize("name", [field.name for field in accesslog_pb2.ResponseFlags.DESCRIPTOR.fields])
    def test_every_flag_has_its_short_name(self, name: str) -> None:
        made = entry()
        flags = made.common_properties.response_flags
        if name == "unauthorized_details":
            flags.unauthorized_details.reason = flags.unauthorized_details.EXTERNAL_SERVICE
        else:
            setattr(flags, name, True)
        assert read_entry(made).flags == {FLAGS[name]}

    def test_short_names_are_not_shared_and_flags_add_up(self) -> None:
        assert len(set(FLAGS.values())) == len(FLAGS)
        made = entry()
        flags = made.common_properties.response_flags
        flags.upstream_connection_failure = flags.upstream_retry_limit_exceeded = True
        flags.no_route_found = False
        assert read_entry(made).flags == {"UF", "URX"}

    def test_a_host_that_could_not_be_connected_to_was_not_reached(self) -> None:
        made = entry()
        made.common_properties.upstream_remote_address.socket_address.address = "127.0.0.1"
        assert read_entry(made).reached_service
        made.common_properties.response_flags.upstream_connection_failure = True
        assert not read_entry(made).reached_service

    def test_the_whole_time_where_the_client_was_sent_nothing(self) -> None:
        made = entry()
        made.common_properties.duration.FromTimedelta(timedelta(milliseconds=40))
        assert read_entry(made).duration_s == 0.04

    def test_a_service_that_answers_before_it_has_read_everything_took_no_time(self) -> None:
        made = entry()
        made.common_properties.time_to_first_upstream_rx_byte.FromTimedelta(timedelta(milliseconds=5))
        made.common_properties.time_to_last_upstream_tx_byte.FromTimedelta(timedelta(milliseconds=9))
        assert read_entry(made).service_s == 0

    def test_of_metadata_only_the_strings(self) -> None:
        made = entry("", {"decision": "allow", "number": 1, "list": ["a"], "empty": "", "none": None, "yes": True})
        made.common_properties.metadata.filter_metadata["another"].update({"route": "x"})
        found = read_entry(made)
        assert found.decision == {"decision": "allow", "empty": ""}
        assert "allow" not in repr(found), "orders and merchants are no matter for a log line"


class Hearing:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def finished(self, exchange: Finished) -> None:
        self.heard.append(exchange.request_id)


class Failing:
    async def finished(self, exchange: Finished) -> None:
        raise ValueError(SECRET)


class Stuck(Hearing):
    """Takes its time until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.at_once = 0

    async def finished(self, exchange: Finished) -> None:
        self.at_once += 1
        await self.go_on.wait()
        await super().finished(exchange)


async def tell(receiver: AccessLogReceiver, *entries: accesslog_pb2.HTTPAccessLogEntry) -> None:
    """One stream with an empty message and one message an entry."""

    async def stream() -> AsyncIterator[als_pb2.StreamAccessLogsMessage]:
        yield als_pb2.StreamAccessLogsMessage()
        for one in entries:
            message = als_pb2.StreamAccessLogsMessage()
            message.http_logs.log_entry.append(one)
            yield message

    await receiver.StreamAccessLogs(stream(), None)


def receiving(listeners: Sequence[Listener]) -> tuple[AccessLogReceiver, CollectorRegistry]:
    registry = CollectorRegistry()
    return AccessLogReceiver(listeners, registry), registry


class TestListeners:
    async def test_all_hear_all_though_one_fails_and_its_text_is_not_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        before, after = Hearing(), Hearing()
        receiver, _ = receiving([before, Failing(), after])
        await tell(receiver, entry("a"), entry("b"))
        assert before.heard == after.heard == ["a", "b"]
        told = [vars(record)["fields"] for record in caplog.records]
        assert [(fields["listener"], fields["request_id"]) for fields in told] == [("Failing", "a"), ("Failing", "b")]
        assert "ValueError at " in told[0]["error"]
        assert SECRET not in str([vars(record) for record in caplog.records])

    async def test_an_entry_does_not_wait_for_the_one_before(self) -> None:
        stuck = Stuck()
        receiver, _ = receiving([stuck])
        stream = asyncio.create_task(tell(receiver, entry("a"), entry("b")))
        while stuck.at_once < 2:
            await asyncio.sleep(0)
        assert not stream.done(), "the stream's end waits until everything is told"
        stuck.go_on.set()
        await stream
        assert stuck.heard == ["a", "b"]

    async def test_no_more_than_so_many_at_once_and_none_is_lost(self) -> None:
        stuck = Stuck()
        receiver, _ = receiving([stuck])
        stream = asyncio.create_task(tell(receiver, *(entry(str(number)) for number in range(MAX_AT_ONCE + 10))))
        while stuck.at_once < MAX_AT_ONCE:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert stuck.at_once == MAX_AT_ONCE
        stuck.go_on.set()
        await stream
        assert len(stuck.heard) == MAX_AT_ONCE + 10

    async def test_what_has_come_is_told_though_the_stream_breaks_off(self) -> None:
        stuck = Stuck()
        receiver, _ = receiving([stuck])
        stream = asyncio.create_task(tell(receiver, entry("a")))
        while not stuck.at_once:
            await asyncio.sleep(0)
        stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream
        stuck.go_on.set()
        await receiver.close()
        assert stuck.heard == ["a"]

    async def test_entries_are_counted_by_whether_they_were_decided_and_only_ends_are_ends(self) -> None:
        hearing = Hearing()
        receiver, registry = receiving([hearing])
        begun = entry("begun", {"decision": "allow"})
        begun.common_properties.intermediate_log_entry = True
        await tell(receiver, begun, entry("a", {"decision": "allow"}), entry("b"), entry("c"))
        assert hearing.heard == ["a", "b", "c"]
        counted = [registry.get_sample_value("paymesh_access_log_entries_total", {"decided": d}) for d in ("yes", "no")]
        assert counted == [1, 2]
