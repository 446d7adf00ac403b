from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ShowRequest(_message.Message):
    __slots__ = ("merchant",)
    MERCHANT_FIELD_NUMBER: _ClassVar[int]
    merchant: str
    def __init__(self, merchant: _Optional[str] = ...) -> None: ...

class ShowResponse(_message.Message):
    __slots__ = ("limits", "usage_known", "overrides")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    USAGE_KNOWN_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.RepeatedCompositeFieldContainer[LimitInForce]
    usage_known: bool
    overrides: _containers.RepeatedCompositeFieldContainer[Override]
    def __init__(self, limits: _Optional[_Iterable[_Union[LimitInForce, _Mapping]]] = ..., usage_known: _Optional[bool] = ..., overrides: _Optional[_Iterable[_Union[Override, _Mapping]]] = ...) -> None: ...

class LimitInForce(_message.Message):
    __slots__ = ("limit", "key", "kind", "size", "size_from", "mode", "usage")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FROM_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    limit: str
    key: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    size: str
    size_from: str
    mode: str
    usage: _containers.RepeatedCompositeFieldContainer[Usage]
    def __init__(self, limit: _Optional[str] = ..., key: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ..., size: _Optional[str] = ..., size_from: _Optional[str] = ..., mode: _Optional[str] = ..., usage: _Optional[_Iterable[_Union[Usage, _Mapping]]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("used", "of")
    USED_FIELD_NUMBER: _ClassVar[int]
    OF_FIELD_NUMBER: _ClassVar[int]
    used: int
    of: int
    def __init__(self, used: _Optional[int] = ..., of: _Optional[int] = ...) -> None: ...

class Override(_message.Message):
    __slots__ = ("limit", "values", "size", "until", "reason", "actor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    limit: str
    values: _containers.RepeatedScalarFieldContainer[str]
    size: str
    until: int
    reason: str
    actor: str
    def __init__(self, limit: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., size: _Optional[str] = ..., until: _Optional[int] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class SetRequest(_message.Message):
    __slots__ = ("limit", "values", "size", "seconds", "reason", "actor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    limit: str
    values: _containers.RepeatedScalarFieldContainer[str]
    size: str
    seconds: int
    reason: str
    actor: str
    def __init__(self, limit: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., size: _Optional[str] = ..., seconds: _Optional[int] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class SetResponse(_message.Message):
    __slots__ = ("before", "after", "until")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    before: str
    after: str
    until: int
    def __init__(self, before: _Optional[str] = ..., after: _Optional[str] = ..., until: _Optional[int] = ...) -> None: ...

class UnsetRequest(_message.Message):
    __slots__ = ("limit", "values", "reason", "actor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    limit: str
    values: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    actor: str
    def __init__(self, limit: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class UnsetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
