"""Owns how an operator writes where shared state is. Refuses what cannot be used, naming the part, never its value:
a misplaced password must not end up in an error message.

    redis://[user[:password]@]host[:6379][/db]           rediss:// with TLS
    unix://[user[:password]@]/path/to.sock[?db=0]
    redis+sentinel://[...@]host[:26379],host/master-name[/db]     rediss+sentinel://
    redis+cluster://[...@]host[:6379],host                        rediss+cluster://

`valkey` may stand for `redis`. With TLS: `?ssl_ca_certs=`, `ssl_certfile=`, `ssl_keyfile=` (paths). With Sentinel:
`?sentinel_auth=true` where the sentinels ask for the same user and password.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from paymesh.payments.secrets import Secret

_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys|unix)(?:\+(sentinel|cluster))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^:\[\]\s]+)(?::([0-9]{1,5}))?")
_TLS_KEYS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


class Topology(enum.Enum):
    SERVER = "server"
    UNIX = "unix"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class StateAddress:
    """Where shared state is. `hosts`: the server, the sentinels or the cluster's first nodes; empty for a socket."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    db: int = 0
    master_name: str = ""
    tls: bool = False
    tls_files: Mapping[str, str] = field(default_factory=dict)
    username: str | None = None
    password: Secret | None = None
    sentinel_auth: bool = False


def parse_state_url(url: str, password: Secret | None = None) -> StateAddress:
    """The address in `url`. `password`: for a URL that holds none. ValueError for anything unusable."""
    scheme, separator, rest = url.partition("://")
    matched = _SCHEME.fullmatch(scheme)
    if not separator or matched is None or (matched[1] == "unix" and matched[2]):
        raise ValueError("the scheme is not redis, rediss, unix, redis+sentinel or redis+cluster")
    topology = Topology.UNIX if matched[1] == "unix" else Topology(matched[2] or "server")
    rest, _, query_text = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, _, hosts_text = authority.rpartition("@")
    username, in_url = _credentials(credentials)
    if in_url is not None and password is not None:
        raise ValueError("a password both in the URL and beside it")
    tls = matched[1] in ("rediss", "valkeys")
    query = _query(query_text, topology, tls)
    parts = [unquote(part) for part in path.split("/")] if path else []
    place = _place(topology, hosts_text, slash + path, parts, query)
    return StateAddress(
        topology=topology,
        hosts=place.hosts,
        path=place.path,
        db=place.db,
        master_name=place.master_name,
        tls=tls,
        tls_files={key: value for key, value in query.items() if key in _TLS_KEYS},
        username=username,
        password=in_url or password,
        sentinel_auth=query.get("sentinel_auth") == "true",
    )


@dataclass(frozen=True, slots=True)
class _Place:
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    db: int = 0
    master_name: str = ""


def _place(topology: Topology, hosts: str, path: str, parts: list[str], query: Mapping[str, str]) -> _Place:
    if topology is Topology.UNIX:
        if hosts:
            raise ValueError("a unix URL has three slashes before its path and no host")
        if path in ("", "/"):
            raise ValueError("the path of the socket is missing")
        return _Place(path=unquote(path), db=_db(query.get("db", "")))
    if topology is Topology.SENTINEL:
        if not parts or not parts[0]:
            raise ValueError("the master's name is missing: redis+sentinel://host,host/NAME/db")
        return _Place(_hosts(hosts, 26379), db=_db(_only_part(parts[1:])), master_name=parts[0])
    place = _Place(_hosts(hosts, 6379), db=_db(_only_part(parts)))
    if topology is Topology.SERVER and len(place.hosts) > 1:
        raise ValueError("several hosts: use redis+sentinel or redis+cluster")
    if topology is Topology.CLUSTER and place.db:
        raise ValueError("a cluster has no database but 0")
    return place


def _credentials(text: str) -> tuple[str | None, Secret | None]:
    username, colon, password = text.partition(":")
    secret = Secret(unquote(password).encode()) if colon and password else None
    return (unquote(username) or None, secret)


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for number, one in enumerate(text.split(","), 1):
        matched = _HOST.fullmatch(one)
        port = default_port if matched is None or matched[2] is None else int(matched[2])
        if matched is None or not 0 < port < 65536:
            raise ValueError(f"host {number} is not HOST or HOST:PORT")
        hosts.append((matched[1].strip("[]"), port))
    return tuple(hosts)


def _only_part(parts: list[str]) -> str:
    if len(parts) > 1 and any(parts[1:]):
        raise ValueError("the path has more parts than a database number")
    return parts[0] if parts else ""


def _db(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ValueError("the database is not a number")
    return int(text or 0)


def _query(text: str, topology: Topology, tls: bool) -> dict[str, str]:
    allowed = set(_TLS_KEYS) if tls else set()
    if topology is Topology.UNIX:
        allowed.add("db")
    if topology is Topology.SENTINEL:
        allowed.add("sentinel_auth")
    pairs = parse_qsl(text, keep_blank_values=True)
    for number, (key, _) in enumerate(pairs, 1):
        if key not in allowed:
            raise ValueError(f"parameter {number} after the question mark is not one of: {sorted(allowed)}")
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a parameter stands twice after the question mark")
    query = dict(pairs)
    if query.get("sentinel_auth", "true") not in ("true", "false"):
        raise ValueError("sentinel_auth is not true or false")
    return query
