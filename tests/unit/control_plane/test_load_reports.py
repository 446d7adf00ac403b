"""What Envoys report is added up by cluster and over a window; what is gone is forgotten."""

from __future__ import annotations

from envoy.service.load_stats.v3 import lrs_pb2

from control_plane.xds.load_reports import KEPT_S, Load, LoadReports


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def report(cluster: str, successes: int, errors: int = 0, flying: int = 0) -> lrs_pb2.LoadStatsRequest:
    request = lrs_pb2.LoadStatsRequest()
    for part in (successes // 2, successes - successes // 2):  # two zones
        zone = request.cluster_stats.add(cluster_name=cluster).upstream_locality_stats.add()
        zone.total_successful_requests = part
    stats = request.cluster_stats.add(cluster_name=cluster).upstream_locality_stats.add()
    stats.total_error_requests, stats.total_requests_in_progress = errors, flying
    return request


def test_reports_of_all_envoys_add_up_within_the_window() -> None:
    clock = Clock()
    reports = LoadReports(clock)
    reports.report(1, report("trade|v2", 7, 1))
    clock.now += 10
    reports.report(2, report("trade|v2", 5, 2))
    assert reports.since("trade|v2", 60) == Load(12, 3)
    assert reports.since("trade|v2", 5) == Load(5, 2)
    assert reports.since("nobody", 60) == Load()


def test_what_is_in_flight_is_each_envoys_last_word() -> None:
    reports = LoadReports()
    reports.report(1, report("a", 0, flying=3))
    reports.report(1, report("a", 0, flying=2))
    reports.report(2, report("a", 0, flying=5))
    assert reports.in_progress("a") == 7
    reports.gone(2)
    assert reports.in_progress("a") == 2


def test_what_is_old_or_not_there_any_more_is_forgotten() -> None:
    clock = Clock()
    reports = LoadReports(clock)
    reports.report(1, report("a", 1))
    clock.now += KEPT_S + 1
    reports.report(1, report("a", 1))
    assert reports.since("a", 10 * KEPT_S) == Load(1)
    reports.keep(frozenset({"b"}))
    assert reports.since("a", KEPT_S) == Load()


def test_prometheus_sees_totals() -> None:
    reports = LoadReports()
    reports.report(1, report("a", 3, 1, 2))
    ended, flying = reports.collect()
    assert {tuple(one.labels.values()): one.value for one in ended.samples} == {("a", "success"): 3, ("a", "error"): 1}
    assert [one.value for one in flying.samples] == [2]
