from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyRequest(_message.Message):
    __slots__ = ("file_name", "text", "reason", "actor")
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    file_name: str
    text: str
    reason: str
    actor: str
    def __init__(self, file_name: _Optional[str] = ..., text: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class TellRequest(_message.Message):
    __slots__ = ("name", "command", "reason", "actor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    command: str
    reason: str
    actor: str
    def __init__(self, name: _Optional[str] = ..., command: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class DrillRequest(_message.Message):
    __slots__ = ("name", "abort_share", "abort_status", "delay_share", "delay_ms", "reason", "actor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ABORT_SHARE_FIELD_NUMBER: _ClassVar[int]
    ABORT_STATUS_FIELD_NUMBER: _ClassVar[int]
    DELAY_SHARE_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    abort_share: int
    abort_status: int
    delay_share: int
    delay_ms: int
    reason: str
    actor: str
    def __init__(self, name: _Optional[str] = ..., abort_share: _Optional[int] = ..., abort_status: _Optional[int] = ..., delay_share: _Optional[int] = ..., delay_ms: _Optional[int] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("name", "service", "strategy", "stable", "target", "phase", "steps", "step", "set_weight", "actual_weight", "pins", "verdict", "why", "findings", "hold_until", "traffic", "drill", "over", "analysed", "changed_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SET_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PINS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    HOLD_UNTIL_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    DRILL_FIELD_NUMBER: _ClassVar[int]
    OVER_FIELD_NUMBER: _ClassVar[int]
    ANALYSED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    service: str
    strategy: str
    stable: str
    target: str
    phase: str
    steps: _containers.RepeatedScalarFieldContainer[str]
    step: int
    set_weight: int
    actual_weight: int
    pins: int
    verdict: str
    why: str
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    hold_until: int
    traffic: _containers.RepeatedCompositeFieldContainer[VersionTraffic]
    drill: str
    over: bool
    analysed: bool
    changed_at: int
    def __init__(self, name: _Optional[str] = ..., service: _Optional[str] = ..., strategy: _Optional[str] = ..., stable: _Optional[str] = ..., target: _Optional[str] = ..., phase: _Optional[str] = ..., steps: _Optional[_Iterable[str]] = ..., step: _Optional[int] = ..., set_weight: _Optional[int] = ..., actual_weight: _Optional[int] = ..., pins: _Optional[int] = ..., verdict: _Optional[str] = ..., why: _Optional[str] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., hold_until: _Optional[int] = ..., traffic: _Optional[_Iterable[_Union[VersionTraffic, _Mapping]]] = ..., drill: _Optional[str] = ..., over: _Optional[bool] = ..., analysed: _Optional[bool] = ..., changed_at: _Optional[int] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("check", "verdict", "why")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    check: str
    verdict: str
    why: str
    def __init__(self, check: _Optional[str] = ..., verdict: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class VersionTraffic(_message.Message):
    __slots__ = ("version", "requests", "errors", "payments", "payments_failed", "p99_ms", "amount", "samples")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_FAILED_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    version: str
    requests: int
    errors: int
    payments: int
    payments_failed: int
    p99_ms: int
    amount: _containers.RepeatedCompositeFieldContainer[Money]
    samples: _containers.RepeatedCompositeFieldContainer[Sample]
    def __init__(self, version: _Optional[str] = ..., requests: _Optional[int] = ..., errors: _Optional[int] = ..., payments: _Optional[int] = ..., payments_failed: _Optional[int] = ..., p99_ms: _Optional[int] = ..., amount: _Optional[_Iterable[_Union[Money, _Mapping]]] = ..., samples: _Optional[_Iterable[_Union[Sample, _Mapping]]] = ...) -> None: ...

class Money(_message.Message):
    __slots__ = ("currency", "amount")
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    currency: str
    amount: int
    def __init__(self, currency: _Optional[str] = ..., amount: _Optional[int] = ...) -> None: ...

class Sample(_message.Message):
    __slots__ = ("at", "requests", "errors", "p99_ms")
    AT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    at: int
    requests: int
    errors: int
    p99_ms: int
    def __init__(self, at: _Optional[int] = ..., requests: _Optional[int] = ..., errors: _Optional[int] = ..., p99_ms: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("entries", "steps")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    steps: int
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., steps: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("at", "who", "what", "phase", "step", "set_weight")
    AT_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SET_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    at: int
    who: str
    what: str
    phase: str
    step: int
    set_weight: int
    def __init__(self, at: _Optional[int] = ..., who: _Optional[str] = ..., what: _Optional[str] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., set_weight: _Optional[int] = ...) -> None: ...

class PreviewRequest(_message.Message):
    __slots__ = ("service", "weights", "salt")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    service: str
    weights: _containers.ScalarMap[str, int]
    salt: str
    def __init__(self, service: _Optional[str] = ..., weights: _Optional[_Mapping[str, int]] = ..., salt: _Optional[str] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("versions", "moves", "merchants_seen", "payments_seen", "amount_seen")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    MERCHANTS_SEEN_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_SEEN_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_SEEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionShare]
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    merchants_seen: int
    payments_seen: int
    amount_seen: _containers.RepeatedCompositeFieldContainer[Money]
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionShare, _Mapping]]] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., merchants_seen: _Optional[int] = ..., payments_seen: _Optional[int] = ..., amount_seen: _Optional[_Iterable[_Union[Money, _Mapping]]] = ...) -> None: ...

class VersionShare(_message.Message):
    __slots__ = ("version", "set_weight", "new_weight", "payments", "amount")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SET_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NEW_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    version: str
    set_weight: int
    new_weight: int
    payments: int
    amount: _containers.RepeatedCompositeFieldContainer[Money]
    def __init__(self, version: _Optional[str] = ..., set_weight: _Optional[int] = ..., new_weight: _Optional[int] = ..., payments: _Optional[int] = ..., amount: _Optional[_Iterable[_Union[Money, _Mapping]]] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("merchant", "to", "payments", "amount")
    MERCHANT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PAYMENTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    merchant: str
    to: str
    payments: int
    amount: _containers.RepeatedCompositeFieldContainer[Money]
    def __init__(self, merchant: _Optional[str] = ..., to: _Optional[str] = ..., payments: _Optional[int] = ..., amount: _Optional[_Iterable[_Union[Money, _Mapping]]] = ..., **kwargs) -> None: ...

class ReceiptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReceiptResponse(_message.Message):
    __slots__ = ("markdown",)
    MARKDOWN_FIELD_NUMBER: _ClassVar[int]
    markdown: str
    def __init__(self, markdown: _Optional[str] = ...) -> None: ...
