"""Owns the last good snapshot on disk: written whole or not at all, believed only if it is as it was written.

A control plane that starts while its registries are not there yet serves it, and goes back to it when Envoys refuse the
first thing that it publishes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from control_plane.resources.names import TYPES
from control_plane.xds.snapshot import Snapshot
from paymesh.payments.releases.traffic import decode_rules, encode_rules

_LOG = logging.getLogger(__name__)
_MAGIC = b"paymesh-snapshot-2\n"


class LastGood:
    """One file. Blocking."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def save(self, snapshot: Snapshot) -> None:
        """Raises OSError."""
        content = _encode(snapshot)
        with self._lock:
            beside = self._file.with_suffix(".new")
            with beside.open("wb") as opened:
                opened.write(_MAGIC + hashlib.sha256(content).digest() + content)
                opened.flush()
                os.fsync(opened.fileno())
            beside.replace(self._file)

    def load(self) -> Snapshot | None:
        """None where there is none, or what is there cannot be believed; that is logged."""
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.error("the last good snapshot cannot be read", extra={"fields": {"error": type(error).__name__}})
            return None
        head = len(_MAGIC) + hashlib.sha256().digest_size
        content = data[head:]
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : head] != hashlib.sha256(content).digest():
            _LOG.error("the last good snapshot is damaged, or of another version: it is not used")
            return None
        return _decode(content)


class Saving:
    """Saves in a thread, the newest only: whoever publishes waits for no disk."""

    def __init__(self, to: LastGood) -> None:
        self._to = to
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="last-good")
        self._newest: Snapshot | None = None

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True)

    def save(self, snapshot: Snapshot) -> None:
        """Returns at once."""
        self._newest = snapshot
        self._executor.submit(self._save, snapshot)

    def _save(self, snapshot: Snapshot) -> None:
        if snapshot is not self._newest:
            return
        try:
            self._to.save(snapshot)
        except OSError as error:
            _LOG.error("the last good snapshot is not saved", extra={"fields": {"error": type(error).__name__}})


def _encode(snapshot: Snapshot) -> bytes:
    lengths = {kind: {name: len(data) for name, data in found.items()} for kind, found in snapshot.resources.items()}
    weights = {name: list(split.items()) for name, split in snapshot.weights.items()}
    rules = {name: encode_rules(found) for name, found in snapshot.rules.items()}
    index = json.dumps(
        {"lengths": lengths, "versions": dict(snapshot.versions), "weights": weights, "rules": rules}
    ).encode()
    parts = (data for found in snapshot.resources.values() for data in found.values())
    return struct.pack(">I", len(index)) + index + b"".join(parts)


def _decode(content: bytes) -> Snapshot | None:
    (length,) = struct.unpack_from(">I", content)
    index = json.loads(content[4 : 4 + length])
    if set(index["lengths"]) != set(TYPES):
        return None  # of a release that served other types
    at = 4 + length
    resources: dict[str, dict[str, bytes]] = {}
    for kind, lengths in index["lengths"].items():
        resources[kind] = {}
        for name, size in lengths.items():
            resources[kind][name] = content[at : at + size]
            at += size
    weights = {name: dict(split) for name, split in index["weights"].items()}
    rules = {name: decode_rules(text) for name, text in index["rules"].items()}
    return Snapshot(resources, index["versions"], weights, rules)
