"""Owns the policy in force: loads it at start, watches its files, and swaps one reference when a good new one appears.

Refuses a bad one: the policy in force stays, the problems are logged and kept for whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from paymesh.payments.policy.compiled import Policy
from paymesh.payments.policy.load import LoadedPolicy, load
from paymesh.payments.policy.problems import PolicyErrors, PolicyProblem
from paymesh.payments.policy.yaml_source import policy_files

POLL_SECONDS = 0.25
_LOG = logging.getLogger(__name__)

OnReload = Callable[[Policy], Awaitable[None]]
"""Told of a new policy before it comes into force; raises PolicyErrors to refuse it."""
Signature = tuple[tuple[str, int, int, int], ...]


class PolicySource:
    """The policy of these files and folders. Raises PolicyErrors if the first load fails and there is no `instead`: a
    folder with the last policy that was good, to go on with until the files are."""

    def __init__(self, paths: Sequence[Path], environ: Mapping[str, str], instead: Path | None = None) -> None:
        self._paths = tuple(paths)
        self._environ = dict(environ)
        refused: PolicyErrors | None = None
        try:
            self._loaded = load(self._paths, self._environ)
            self._watched = frozenset(self._loaded.files)
        except PolicyErrors as error:
            if instead is None or not instead.is_dir():
                raise
            try:
                self._loaded = load([instead], self._environ)
            except PolicyErrors:
                raise error from None
            self._watched, refused = frozenset(error.files), error
        self._signature: Signature = ()
        self.last_problems: tuple[PolicyProblem, ...] = ()
        """Why the newest files are not in force; empty when they are."""
        self.failures = 0
        """Reloads refused since the start."""
        if refused is not None:
            self._refuse(refused)
        self._polling = asyncio.Lock()
        self.newest = self._loaded
        """What was loaded last, whether or not it came into force: `on_reload` decides."""

    @property
    def current(self) -> Policy:
        """The policy in force. Read it once a request and keep it: the next read may be another one."""
        return self._loaded.policy

    @property
    def documents(self) -> tuple[tuple[str, str], ...]:
        """Names and texts of the files in force."""
        return self._loaded.documents

    async def watch(self, on_reload: OnReload | None = None) -> None:
        """Poll the files until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.poll(on_reload)
            except Exception as error:  # whatever went wrong this time, the next change must still be seen
                # By type and place: its text may hold what was being read.
                _LOG.error("policy not reloaded", exc_info=error)

    async def poll(self, on_reload: OnReload | None = None) -> bool:
        """Look once; True if a new policy came into force. Calls wait for one another."""
        async with self._polling:
            return await self._poll(on_reload)

    async def _poll(self, on_reload: OnReload | None) -> bool:
        # The signature is taken before reading: files that change while they are read are read again next time.
        signature = await asyncio.to_thread(self._sign)
        if signature == self._signature:
            return False
        watched = self._watched
        try:
            loaded = self.newest = await asyncio.to_thread(load, self._paths, self._environ)
            changed = loaded.policy.version != self.current.version
            if changed and on_reload is not None:
                await on_reload(loaded.policy)
        except PolicyErrors as error:
            self._watched = frozenset({*self._loaded.files, *error.files})
            self._refuse(error)
            changed = False
        else:
            self._watched = frozenset(loaded.files)
            self._accept(loaded, changed)
        # Files not watched before have no signature yet: the next look reads once more.
        self._signature = signature if self._watched <= watched else ()
        return changed

    def _refuse(self, error: PolicyErrors) -> None:
        if error.problems == self.last_problems:
            return
        self.last_problems = error.problems
        self.failures += 1
        _LOG.error(
            "policy refused; the one in force stays",
            extra={"fields": {"policy": self.current.version, "problems": [str(p) for p in error.problems]}},
        )

    def _accept(self, loaded: LoadedPolicy, changed: bool) -> None:
        if changed:
            _LOG.info(
                "policy in force", extra={"fields": {"policy": loaded.policy.version, "before": self.current.version}}
            )
            self._loaded = loaded
        self.last_problems = ()

    def _sign(self) -> Signature:
        seen = []
        for file in {*self._watched, *policy_files(self._paths)}:
            try:
                status = file.stat()
                seen.append((str(file), status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                seen.append((str(file), 0, 0, 0))
        return tuple(sorted(seen))
