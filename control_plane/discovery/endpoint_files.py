"""Owns hosts that stand in a file (`endpoints_file`): read again when it changes, refused whole when it is wrong."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StrictInt, StringConstraints, TypeAdapter, ValidationError, field_validator

from control_plane.discovery.contract import Host
from paymesh.payments.internal_names import version_cluster
from paymesh.payments.policy.compiled import Service, ServiceVersion
from paymesh.payments.policy.values import Document

LOOK_EVERY_S = 0.25
MAX_BYTES = 16 * 1024 * 1024
_LOG = logging.getLogger(__name__)


class HostDocument(Document):
    """One host. Unknown keys are refused."""

    address: str
    port: Annotated[StrictInt, Field(ge=1, le=65535)]
    weight: Annotated[StrictInt, Field(ge=1, le=128)] = 1
    zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        ipaddress.ip_address(value)  # ValueError becomes the problem's text
        return value


_HOSTS = TypeAdapter(tuple[HostDocument, ...])


class UnusableHosts(ValueError):  # noqa: N818 - it names what was found
    """What stands in the file is no list of hosts; the message says where."""


def read_hosts(text: str) -> tuple[Host, ...]:
    """The hosts of a YAML or JSON list, sorted. Raises UnusableHosts, for an empty list and for repetitions too."""
    try:
        documents = _HOSTS.validate_python(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise UnusableHosts(f"is no YAML: {getattr(error, 'problem', None) or type(error).__name__}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise UnusableHosts(f"{place or 'the file'}: {first['msg']}") from None
    hosts = tuple(sorted(Host(one.address, one.port, one.weight, one.zone) for one in documents))
    if not hosts:
        raise UnusableHosts("names no host")
    addresses = [(one.address, one.port) for one in hosts]
    if len(set(addresses)) != len(addresses):
        raise UnusableHosts("names a host twice")
    return hosts


class EndpointFiles:
    """A registry (`contract.Registry`)."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def finds(self, version: ServiceVersion) -> bool:
        return version.endpoints_file is not None

    async def hosts(self, service: Service, version: ServiceVersion) -> AsyncIterator[tuple[Host, ...]]:
        file, name = version.endpoints_file, version_cluster(service.name, version.name)
        assert file is not None  # `finds`
        told: tuple[Host, ...] = ()
        read: tuple[int, int, int] | None = None
        while True:
            signature = await asyncio.to_thread(_signature, file)
            if signature != read:
                read = signature
                try:
                    found = await asyncio.to_thread(_read, file)
                except (OSError, UnicodeDecodeError, UnusableHosts) as error:
                    self._refuse(name, f"{file}: {error}")
                else:
                    self.problems.pop(name, None)
                    if found != told:
                        told = found
                        yield found
            await asyncio.sleep(LOOK_EVERY_S)

    def _refuse(self, name: str, problem: str) -> None:
        self.problems[name] = problem
        _LOG.error("hosts not taken over; the known ones stay", extra={"fields": {"cluster": name, "problem": problem}})


def _read(file: Path) -> tuple[Host, ...]:
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UnusableHosts(f"is larger than {MAX_BYTES} bytes")
    return read_hosts(data.decode("utf-8"))


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
