"""Owns how a service's traffic is split now: every change recorded durably before it is published.

The record is state and audit in one: who, when, why, before, after. It wins over the policy's initial weights as long
as the policy has the same versions in the same order; a policy that would drop a version with traffic is refused.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.sqlite import open_database, transaction
from paymesh.payments.percent import format_percent
from paymesh.payments.policy.compiled import TOTAL_WEIGHT, Policy, Service
from paymesh.payments.releases.traffic import Rules, decode_rules, encode_rules

_SCHEMA = """
CREATE TABLE IF NOT EXISTS weight_changes (
    id INTEGER PRIMARY KEY, service TEXT NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
    before TEXT NOT NULL, after TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS release_rules (service TEXT PRIMARY KEY, rules TEXT NOT NULL) STRICT;
"""


class InvalidWeights(Exception):  # noqa: N818 - it names what was given
    """The weights cannot be set; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class WeightChange:
    """`at_s` is Unix seconds; weights are hundredths of a percent by version, in the order of the policy."""

    service: str
    at_s: float
    actor: str
    reason: str
    before: Mapping[str, int]
    after: Mapping[str, int]


def checked_weights(service: Service, given: Mapping[str, int]) -> dict[str, int]:
    """`given` in the policy's order, versions not named at zero. Raises InvalidWeights."""
    known = [version.name for version in service.versions]
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise InvalidWeights(f"{service.name} has no version {', '.join(unknown)} (it has: {', '.join(known)})")
    weights = {name: given.get(name, 0) for name in known}
    if any(weight < 0 for weight in weights.values()):
        raise InvalidWeights("a weight is never negative")
    total = sum(weights.values())
    if total != TOTAL_WEIGHT:
        raise InvalidWeights(f"the weights add up to {format_percent(total)} percent, not to 100")
    return weights


class WeightStore:
    """Recorded changes in one SQLite file. Blocking: call it in a thread."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._database = open_database(file, _SCHEMA)

    def recorded(self) -> dict[str, dict[str, int]]:
        """The newest weights of every service that was ever set."""
        with self._lock:
            rows = self._database.execute(
                "SELECT service, after FROM weight_changes"
                " WHERE id IN (SELECT max(id) FROM weight_changes GROUP BY service)"
            ).fetchall()
        return {service: json.loads(after) for service, after in rows}

    def rules(self) -> dict[str, Rules]:
        """What releases asked for beside the weights, by service."""
        with self._lock:
            rows = self._database.execute("SELECT service, rules FROM release_rules").fetchall()
        return {service: decode_rules(rules) for service, rules in rows}

    def record(
        self,
        service: Service,
        given: Mapping[str, int],
        before: Mapping[str, int],
        actor: str,
        reason: str,
        rules: Rules | None = None,
    ) -> WeightChange:
        """Check and write a change; it is durable when this returns. `rules` None: they stay. Raises InvalidWeights."""
        if not reason.strip():
            raise InvalidWeights("a reason is required: it is what the audit shows")
        change = WeightChange(service.name, time.time(), actor, reason, dict(before), checked_weights(service, given))
        with self._lock, transaction(self._database):
            self._database.execute(
                "INSERT INTO weight_changes (service, at, actor, reason, before, after) VALUES (?, ?, ?, ?, ?, ?)",
                (change.service, change.at_s, actor, reason, json.dumps(change.before), json.dumps(change.after)),
            )
            if rules is not None:
                self._database.execute(
                    "INSERT INTO release_rules VALUES (?, ?)"
                    " ON CONFLICT (service) DO UPDATE SET rules = excluded.rules",
                    (service.name, encode_rules(rules)),
                )
        return change

    def record_first(self, given: Mapping[str, Mapping[str, int]]) -> None:
        """The weights that a policy begins its services with; durable when this returns."""
        if not given:
            return
        rows = [
            (name, time.time(), "policy", "seen for the first time", "{}", json.dumps(split))
            for name, split in given.items()
        ]
        with self._lock, transaction(self._database):
            self._database.executemany(
                "INSERT INTO weight_changes (service, at, actor, reason, before, after) VALUES (?, ?, ?, ?, ?, ?)", rows
            )

    def close(self) -> None:
        with self._lock:
            self._database.close()


def effective_weights(policy: Policy, recorded: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The weights in force: recorded ones where the versions are the same, the policy's elsewhere."""
    return {service.name: effective_weights_of(service, recorded) for service in policy.services.values()}


def effective_weights_of(service: Service, recorded: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Those of one service."""
    known = recorded.get(service.name)
    if known is not None and list(known) == [version.name for version in service.versions]:
        return dict(known)
    return {version.name: version.initial_weight for version in service.versions}


def conflicts(policy: Policy, recorded: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Why this policy cannot take over from the recorded weights: it would move traffic that nobody decided to move.

    A whole service may go: a policy in which something still routes to it is refused elsewhere.
    """
    found = []
    for name, known in recorded.items():
        service = policy.services.get(name)
        if service is None:
            continue
        versions = [version.name for version in service.versions]
        lost = [
            f"{version} ({format_percent(weight)}%)"
            for version, weight in known.items()
            if weight and version not in versions
        ]
        if lost:
            found.append(
                f"service {name}: version {', '.join(lost)} has traffic by set-weight; "
                f"keep it in the policy until set-weight has moved its traffic away"
            )
        elif [v for v in versions if v in known] != [v for v in known if v in versions]:
            found.append(f"service {name}: its versions were reordered, which would move merchants between them")
        elif versions != list(known):
            initial = {version.name: version.initial_weight for version in service.versions}
            if any(initial[version] != known.get(version, 0) for version in versions):
                found.append(
                    f"service {name}: with versions added or removed the policy's weights apply; "
                    f"make them equal to those in force: {', '.join(f'{v} {w / 100:g}' for v, w in known.items() if w)}"
                )
    return found
