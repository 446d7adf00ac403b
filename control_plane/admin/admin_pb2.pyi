from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SetWeightRequest(_message.Message):
    __slots__ = ("service", "weights", "reason", "actor")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    service: str
    weights: _containers.ScalarMap[str, int]
    reason: str
    actor: str
    def __init__(self, service: _Optional[str] = ..., weights: _Optional[_Mapping[str, int]] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class SetWeightResponse(_message.Message):
    __slots__ = ("before", "after")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    before: _containers.RepeatedCompositeFieldContainer[VersionWeight]
    after: _containers.RepeatedCompositeFieldContainer[VersionWeight]
    def __init__(self, before: _Optional[_Iterable[_Union[VersionWeight, _Mapping]]] = ..., after: _Optional[_Iterable[_Union[VersionWeight, _Mapping]]] = ...) -> None: ...

class VersionWeight(_message.Message):
    __slots__ = ("version", "weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    weight: int
    def __init__(self, version: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("policy_version", "policy_problems", "nodes", "services", "rolled_back", "discovery_problems", "subscribers")
    class DiscoveryProblemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    DISCOVERY_PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    policy_version: str
    policy_problems: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    services: _containers.RepeatedCompositeFieldContainer[ServiceStatus]
    rolled_back: str
    discovery_problems: _containers.ScalarMap[str, str]
    subscribers: _containers.RepeatedCompositeFieldContainer[SubscriberStatus]
    def __init__(self, policy_version: _Optional[str] = ..., policy_problems: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., services: _Optional[_Iterable[_Union[ServiceStatus, _Mapping]]] = ..., rolled_back: _Optional[str] = ..., discovery_problems: _Optional[_Mapping[str, str]] = ..., subscribers: _Optional[_Iterable[_Union[SubscriberStatus, _Mapping]]] = ...) -> None: ...

class SubscriberStatus(_message.Message):
    __slots__ = ("id", "sent_version", "acked_version", "nack_message")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACKED_VERSION_FIELD_NUMBER: _ClassVar[int]
    NACK_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    sent_version: str
    acked_version: str
    nack_message: str
    def __init__(self, id: _Optional[str] = ..., sent_version: _Optional[str] = ..., acked_version: _Optional[str] = ..., nack_message: _Optional[str] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("id", "connected_at", "types", "held", "delta", "zone", "kind", "problem")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_AT_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    connected_at: int
    types: _containers.RepeatedCompositeFieldContainer[TypeStatus]
    held: str
    delta: bool
    zone: str
    kind: str
    problem: str
    def __init__(self, id: _Optional[str] = ..., connected_at: _Optional[int] = ..., types: _Optional[_Iterable[_Union[TypeStatus, _Mapping]]] = ..., held: _Optional[str] = ..., delta: _Optional[bool] = ..., zone: _Optional[str] = ..., kind: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class TypeStatus(_message.Message):
    __slots__ = ("type", "sent_version", "acked_version", "nacked_version", "nack_message")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ACKED_VERSION_FIELD_NUMBER: _ClassVar[int]
    NACKED_VERSION_FIELD_NUMBER: _ClassVar[int]
    NACK_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    type: str
    sent_version: str
    acked_version: str
    nacked_version: str
    nack_message: str
    def __init__(self, type: _Optional[str] = ..., sent_version: _Optional[str] = ..., acked_version: _Optional[str] = ..., nacked_version: _Optional[str] = ..., nack_message: _Optional[str] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("service", "versions")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    service: str
    versions: _containers.RepeatedCompositeFieldContainer[VersionStatus]
    def __init__(self, service: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[VersionStatus, _Mapping]]] = ...) -> None: ...

class VersionStatus(_message.Message):
    __slots__ = ("version", "set_weight", "actual_weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    set_weight: int
    actual_weight: int
    def __init__(self, version: _Optional[str] = ..., set_weight: _Optional[int] = ..., actual_weight: _Optional[int] = ...) -> None: ...
