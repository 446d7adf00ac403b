from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class File(_message.Message):
    __slots__ = ("name", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    text: str
    def __init__(self, name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("files", "if_version", "reason", "actor", "dry_run", "from_version")
    FILES_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[File]
    if_version: str
    reason: str
    actor: str
    dry_run: bool
    from_version: str
    def __init__(self, files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., if_version: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ..., dry_run: _Optional[bool] = ..., from_version: _Optional[str] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("version", "before", "files_before")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    FILES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    version: str
    before: str
    files_before: _containers.RepeatedCompositeFieldContainer[File]
    def __init__(self, version: _Optional[str] = ..., before: _Optional[str] = ..., files_before: _Optional[_Iterable[_Union[File, _Mapping]]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version", "before", "at", "actor", "reason", "refused", "in_force", "files")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    version: str
    before: str
    at: int
    actor: str
    reason: str
    refused: str
    in_force: bool
    files: _containers.RepeatedCompositeFieldContainer[File]
    def __init__(self, version: _Optional[str] = ..., before: _Optional[str] = ..., at: _Optional[int] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., refused: _Optional[str] = ..., in_force: _Optional[bool] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ...) -> None: ...

class DumpRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class DumpResponse(_message.Message):
    __slots__ = ("resources", "acknowledged")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.ScalarMap[str, str]
    acknowledged: bool
    def __init__(self, resources: _Optional[_Mapping[str, str]] = ..., acknowledged: _Optional[bool] = ...) -> None: ...
