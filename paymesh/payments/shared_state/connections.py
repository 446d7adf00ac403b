"""Owns connections to the servers of shared state, one command at a time on each. Refuses to use one again whose
answer was not read: the next caller would read it as its own.

redis-py does the protocol, TLS, Sentinel and Cluster. Its own pool and client are not used for a single server: they
take 73 us of CPU a call where its connections take 26 (16 callers at once), and they try again past a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any, Protocol

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError

from paymesh.payments.shared_state.address import StateAddress, Topology

MAX_CONNECTIONS = 64
"""To one server. More callers than that wait, inside their deadline."""

Argument = str | bytes | int


class CannotConnect(Exception):  # noqa: N818 - says what happened, as Unavailable does
    """No connection could be made; no command was sent."""


class Servers(Protocol):
    """The servers of one address. Whoever sets a deadline cancels: that leaves no connection half used."""

    async def execute(self, *command: Argument) -> Any:
        """The answer. Raises CannotConnect, redis.exceptions.RedisError, RedisClusterException or OSError."""
        ...

    async def reset(self) -> None:
        """Drop every connection and what is known about which server answers for what."""
        ...

    async def close(self) -> None: ...


class _Opener(Protocol):
    async def open(self) -> AbstractConnection:
        """A connection that is ready. Raises RedisError or OSError."""
        ...

    def broken(self) -> None:
        """A connection broke, or its server answers no more."""
        ...

    def forget(self) -> None: ...

    async def close(self) -> None: ...


def servers_at(address: StateAddress, step_timeout_s: float) -> Servers:
    """`step_timeout_s`: for one connection or one sentinel, so that the next one may still be asked."""
    if address.topology is Topology.CLUSTER:
        return ClusterServers(address, step_timeout_s)
    if address.topology is Topology.SENTINEL:
        return OneServer(_SentinelMaster(address, step_timeout_s))
    return OneServer(_FixedServer(address))


class OneServer:
    """A server, or the master that the sentinels name. Connections are made as they are needed."""

    def __init__(self, opener: _Opener) -> None:
        self._opener = opener
        self._idle: list[AbstractConnection] = []
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)
        self._generation = 0

    async def execute(self, *command: Argument) -> Any:
        async with self._room:
            generation = self._generation
            connection = await self._idle_connection() or await self._new_connection()
            try:
                await connection.send_command(*command)
                answer = await connection.read_response()
            except ResponseError as error:  # an answer, and read to its end
                # READONLY: a master that became a replica. Whoever is master now has to be asked for.
                await self._release(connection, generation, usable=not isinstance(error, ReadOnlyError))
                raise
            except BaseException:  # cancelled among them: the answer may still come
                self._opener.broken()
                await connection.disconnect(nowait=True)
                raise
            await self._release(connection, generation, usable=True)
            return answer

    async def reset(self) -> None:
        self._generation += 1
        self._opener.forget()
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        await self.reset()
        await self._opener.close()

    async def _release(self, connection: AbstractConnection, generation: int, usable: bool) -> None:
        if usable and generation == self._generation:
            self._idle.append(connection)
        else:
            await connection.disconnect(nowait=True)

    async def _idle_connection(self) -> AbstractConnection | None:
        while self._idle:
            connection = self._idle.pop()
            try:
                # Bytes nobody asked for, or the end: the server closed it while nobody looked.
                usable = connection.is_connected and not await connection.can_read()
            except (RedisError, OSError):
                usable = False
            if usable:
                return connection
            await connection.disconnect(nowait=True)
        return None

    async def _new_connection(self) -> AbstractConnection:
        try:
            return await self._opener.open()
        except (RedisError, OSError) as error:
            self._opener.forget()
            raise CannotConnect(type(error).__name__) from error


class _FixedServer:
    def __init__(self, address: StateAddress) -> None:
        self._address = address
        self._dialler = _Dialler(address)

    async def open(self) -> AbstractConnection:
        if self._address.topology is Topology.UNIX:
            return await self._dialler.unix(self._address.path)
        return await self._dialler.tcp(*self._address.hosts[0])

    def broken(self) -> None:
        """The address does not change."""

    def forget(self) -> None:
        self._dialler.forget()

    async def close(self) -> None:
        """Nothing of its own."""


class _SentinelMaster:
    """The server that the sentinels call master; asked for once, and again after anything went wrong."""

    def __init__(self, address: StateAddress, step_timeout_s: float) -> None:
        self._master_name = address.master_name
        self._dialler = _Dialler(address)
        options: dict[str, Any] = {
            "socket_timeout": step_timeout_s,
            "socket_connect_timeout": step_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "driver_info": None,
        }
        if address.sentinel_auth:
            options |= _login(address)
        if address.tls:
            options |= {"ssl": True, **address.tls_files}
        self._sentinels = Sentinel(address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()
        self._master: tuple[str, int] | None = None

    async def open(self) -> AbstractConnection:
        async with self._asking:
            master = self._master
            if master is None:
                host, port = await self._sentinels.discover_master(self._master_name)
                master = self._master = (str(host), int(port))
        connection = await self._dialler.tcp(*master)
        try:
            await _require_master(connection)
        except BaseException:
            self.broken()
            await connection.disconnect(nowait=True)
            raise
        return connection

    def broken(self) -> None:
        self._master = None

    def forget(self) -> None:
        self.broken()
        self._dialler.forget()

    async def close(self) -> None:
        await self._sentinels.aclose()


class ClusterServers:
    """A Redis Cluster. redis-py knows the slots and follows MOVED and ASK; a map that may be old is read again in a
    task of its own, where no payment waits for it."""

    def __init__(self, address: StateAddress, step_timeout_s: float) -> None:
        self._address = address
        self._step_timeout_s = step_timeout_s
        self._cluster = self._new_cluster()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)  # redis-py refuses one more instead of waiting
        self._detached: set[asyncio.Task[Any]] = set()
        self._refreshing: asyncio.Task[None] | None = None

    async def execute(self, *command: Argument) -> Any:
        async with self._room:
            return await self._execute(command)

    async def _execute(self, command: tuple[Argument, ...]) -> Any:
        # A task, because what redis-py does after a cancellation (closing connections) may take its time.
        task = asyncio.create_task(self._cluster.execute_command(*command))
        self._detached.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            self._refresh()
            raise
        if task.cancelled():  # by `reset`: it is not our caller who was cancelled
            raise RedisConnectionError("the connections were dropped")
        error = task.exception()
        if error is not None and not isinstance(error, ResponseError):
            self._refresh()
        return task.result()

    async def reset(self) -> None:
        former, self._cluster = self._cluster, self._new_cluster()
        await self._drop(former)

    async def close(self) -> None:
        await self._drop(self._cluster)

    async def _drop(self, cluster: RedisCluster) -> None:
        tasks = [*self._detached, *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # RedisCluster.aclose() closes nothing after a failure, for then it takes itself for not connected.
        nodes = cluster.nodes_manager
        for close in (partial(nodes.aclose, "nodes_cache"), partial(nodes.aclose, "startup_nodes"), cluster.aclose):
            with contextlib.suppress(RedisError, OSError):
                await close()

    def _new_cluster(self) -> RedisCluster:
        options: dict[str, Any] = {
            **_login(self._address),
            "socket_timeout": self._step_timeout_s,
            "socket_connect_timeout": self._step_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "require_full_coverage": False,  # the shards that are there go on
            "max_connections": MAX_CONNECTIONS,
            "protocol": 2,
            "driver_info": None,
        }
        if self._address.tls:
            options |= {"ssl": True, **self._address.tls_files}
        return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in self._address.hosts], **options)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._detached.discard(task)
        if not task.cancelled():
            task.exception()  # nobody else may ask for it

    def _refresh(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read_slots(self._cluster))

    async def _read_slots(self, cluster: RedisCluster) -> None:
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await cluster.nodes_manager.initialize()


class _Dialler:
    """Makes connections to one address's servers, each logged in and in its database."""

    def __init__(self, address: StateAddress) -> None:
        self._tls = address.tls
        self._tls_files: dict[str, Any] = dict(address.tls_files)
        # RESP2: our answers need no more, and it saves HELLO. No time limits: the caller cancels.
        self._session: dict[str, Any] = {
            **_login(address),
            "db": address.db,
            "protocol": 2,
            "driver_info": None,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
        }
        self._tls_context: RedisSSLContext | None = None

    async def tcp(self, host: str, port: int) -> AbstractConnection:
        if not self._tls:
            return await _connected(Connection(host=host, port=port, **self._session))
        connection = SSLConnection(host=host, port=port, **self._tls_files, **self._session)
        # One for all: each reads the certificate authorities, milliseconds in which no payment goes on.
        self._tls_context = connection.ssl_context = self._tls_context or connection.ssl_context
        return await _connected(connection)

    async def unix(self, path: str) -> AbstractConnection:
        return await _connected(UnixDomainSocketConnection(path=path, **self._session))

    def forget(self) -> None:
        """The certificate files are read again: they may have been renewed."""
        self._tls_context = None


def _login(address: StateAddress) -> dict[str, Any]:
    password = None if address.password is None else address.password.reveal().decode("utf-8", "surrogateescape")
    return {"username": address.username, "password": password}


async def _require_master(connection: AbstractConnection) -> None:
    # Sentinels may be behind, and a former master answers reads with what was true once.
    await connection.send_command("ROLE")
    role = await connection.read_response()
    if role[0] != b"master":
        raise RedisConnectionError("not a master any more")


async def _connected(connection: AbstractConnection) -> AbstractConnection:
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection
