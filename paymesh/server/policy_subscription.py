"""Owns getting the policy from the control plane: what it sends is tried, kept on disk and used; what cannot be used is
refused, with the reason, and the one in force stays.

The disk comes first: files are written beside the ones in force and moved over them whole, so that a service that
starts without a control plane has the last policy that it accepted. `PolicySource` reads them like an operator's files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.message import DecodeError

from paymesh.payments.policy.load import load
from paymesh.payments.policy.problems import PolicyErrors
from paymesh.server.policy_resource import TYPE_URL, Documents, decode_documents, version_of
from paymesh.server.startup import StartupError

FIRST_WAIT_S = 30.0
AGAIN_AFTER_S = (0.2, 0.5, 1.0, 2.0, 5.0)
KEPT_WAIT_S = 1.0
_HASH = "content.sha256"
_OPTIONS = (("grpc.max_receive_message_length", 256 * 1024 * 1024), ("grpc.keepalive_time_ms", 30_000))
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """Where the policy comes from. `token`: shown as a bearer token. With `ca` over TLS; `certificate` and `key` for
    mTLS. All files."""

    address: str
    token: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def channel(self) -> grpc.aio.Channel:
        """Raises StartupError for a file that cannot be read."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return grpc.aio.secure_channel(self.address, credentials, options=_OPTIONS)

    def blocking_channel(self) -> grpc.Channel:
        """Raises StartupError for a file that cannot be read."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        return grpc.secure_channel(self.address, credentials, options=_OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.ca is None:
            return None
        key, certificate = (None if file is None else _read(file) for file in (self.key, self.certificate))
        return grpc.ssl_channel_credentials(_read(self.ca), key, certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Raises StartupError for a file that cannot be read."""
        if self.token is None:
            return ()
        return (("authorization", f"Bearer {_read(self.token).decode('ascii').strip()}"),)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"{file}: {error.strerror or error}") from error


class PolicyCache:
    """A folder with the policy that was accepted last, and its hash: half of a policy is one too, with fewer merchants,
    limits or routes. Blocking."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.files = folder / "policy"
        """What `PolicySource` reads."""
        self._beside = folder / "new"
        self._before = folder / "old"
        self._environ = environ
        folder.mkdir(parents=True, exist_ok=True)

    def documents(self) -> Documents | None:
        """What is kept; None: nothing, or not what was kept once (a power cut, a hand)."""
        if not self.files.is_dir():
            if not self._before.is_dir():
                return None
            self._before.rename(self.files)  # it was stopped between the two moves
        try:
            found, known = _kept_in(self.files), (self.files / _HASH).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            found, known = (), ""
        if version_of(found) == known:
            return found
        _LOG.error("the policy that was kept is not whole, and not used", extra={"fields": {"folder": str(self.files)}})
        return None

    def check(self, documents: Documents) -> None:
        """Raises PolicyErrors if it is no policy, OSError. Nothing changes."""
        shutil.rmtree(self._beside, ignore_errors=True)
        self._beside.mkdir()
        for number, (name, text) in enumerate(documents):
            # Numbered: the order in which lists are joined stays, and names need not be unique.
            (self._beside / f"{number:04}-{Path(name).stem}.yaml").write_text(text, encoding="utf-8")
        load([self._beside], self._environ)
        (self._beside / _HASH).write_text(version_of(_kept_in(self._beside)), encoding="ascii")

    def accept(self, documents: Documents) -> None:
        """Keep it if it is a policy. Raises PolicyErrors, and then nothing changed; OSError."""
        self.check(documents)
        for file in (*self._beside.iterdir(), self._beside):
            _to_disk(file)
        shutil.rmtree(self._before, ignore_errors=True)
        if self.files.exists():
            self.files.rename(self._before)
        self._beside.rename(self.files)
        _to_disk(self.files.parent)
        shutil.rmtree(self._before, ignore_errors=True)

    def told(self, error: PolicyErrors) -> str:
        """The problems with the names that the operator's files have."""
        prefix = f"{self._beside}/"
        return "\n".join(_without_number(str(problem), prefix) for problem in error.problems)


def _kept_in(folder: Path) -> Documents:
    """Raises OSError, UnicodeDecodeError."""
    return tuple((_name(file), file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.yaml")))


def _name(file: Path) -> str:
    return file.name.split("-", 1)[-1]


def _to_disk(file: Path) -> None:
    """A rename may reach the disk before what was written (POSIX orders neither): `fsync` does."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _without_number(problem: str, prefix: str) -> str:
    return problem[len(prefix) + 5 :] if problem.startswith(prefix) else problem


class PolicySubscription:
    """Follows the control plane. `name`: by which it knows this service."""

    def __init__(self, name: str, control_plane: ControlPlane, cache: PolicyCache) -> None:
        self._name = name
        self._control_plane = control_plane
        self._cache = cache
        self.version = ""
        """Of the documents in force."""

    def first(self) -> None:
        """Until there is a policy: what the control plane sends, or what is kept where it does not answer. Blocking.
        Raises StartupError where there is neither, or what came first cannot be used."""
        kept = self._cache.documents()
        self.version = "" if kept is None else version_of(kept)
        # With something to go on with, a control plane that is away is not waited for.
        timeout_s = FIRST_WAIT_S if kept is None else KEPT_WAIT_S
        try:
            with self._control_plane.blocking_channel() as channel:
                stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources(
                    iter([self._request()]),
                    timeout=timeout_s,
                    metadata=self._control_plane.metadata(),
                    wait_for_ready=True,
                )
                answer = next(stream, None)
        except grpc.RpcError as error:
            if kept is None:
                raise StartupError(
                    f"no policy from {self._control_plane.address}, and none kept: {_words(error)}"
                ) from None
            return
        if answer is None:
            return  # it is the one that is kept
        refusal = self._try(answer)
        if refusal is None:
            self.version = answer.version_info
        elif kept is None:
            raise StartupError(f"the policy of {self._control_plane.address} cannot be used:\n{refusal}")

    async def run(self, on_accepted: Callable[[], Awaitable[object]]) -> None:
        """Follow until cancelled; `on_accepted` brings what was accepted into force."""
        failures = 0
        while True:
            try:
                await self._once(on_accepted)
                failures = 0
            except (grpc.RpcError, StartupError) as error:
                if failures == 0:
                    _LOG.warning("no control plane; the policy stays", extra={"fields": {"why": _words(error)}})
                failures += 1
            except Exception as error:  # whatever went wrong this time, the next policy must still arrive
                _LOG.error("the policy is not followed", exc_info=error)
                failures += 1
            await asyncio.sleep(AGAIN_AFTER_S[min(failures, len(AGAIN_AFTER_S) - 1)])

    async def _once(self, on_accepted: Callable[[], Awaitable[object]]) -> None:
        async with self._control_plane.channel() as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            stream = stub.StreamAggregatedResources(metadata=self._control_plane.metadata())
            await stream.write(self._request())
            while (answer := await stream.read()) is not grpc.aio.EOF:
                refusal = await asyncio.to_thread(self._try, answer)
                if refusal is None:
                    await on_accepted()
                    self.version = answer.version_info
                request = self._request(answer.nonce)
                if refusal is not None:
                    request.error_detail.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                    request.error_detail.message = refusal
                await stream.write(request)

    def _try(self, answer: discovery_pb2.DiscoveryResponse) -> str | None:
        """None: it is kept, and may come into force. Else why not. Blocking."""
        try:
            documents = decode_documents(answer.resources[0].value)
            self._cache.accept(documents)
        except PolicyErrors as error:
            return self._cache.told(error)
        except (OSError, DecodeError, IndexError, ValueError) as error:
            return f"it cannot be kept: {type(error).__name__}"
        return None

    def _request(self, nonce: str = "") -> discovery_pb2.DiscoveryRequest:
        request = discovery_pb2.DiscoveryRequest(type_url=TYPE_URL, version_info=self.version, response_nonce=nonce)
        request.node.id = self._name
        return request


def _words(error: BaseException) -> str:
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
