from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "batch", "gap", "heartbeat", "batches")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: Batch
    gap: Gap
    heartbeat: Heartbeat
    batches: Batches
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., batches: _Optional[_Union[Batches, _Mapping]] = ...) -> None: ...

class AggregatorMessage(_message.Message):
    __slots__ = ("welcome", "ack", "reject")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    reject: Reject
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., reject: _Optional[_Union[Reject, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node", "cluster", "address", "boot_id", "machine_id", "stream_id", "last_sequence", "acked_through", "capacity", "agent_version", "incarnation")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    node: str
    cluster: str
    address: str
    boot_id: str
    machine_id: str
    stream_id: bytes
    last_sequence: int
    acked_through: int
    capacity: Capacity
    agent_version: str
    incarnation: str
    def __init__(self, node: _Optional[str] = ..., cluster: _Optional[str] = ..., address: _Optional[str] = ..., boot_id: _Optional[str] = ..., machine_id: _Optional[str] = ..., stream_id: _Optional[bytes] = ..., last_sequence: _Optional[int] = ..., acked_through: _Optional[int] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., agent_version: _Optional[str] = ..., incarnation: _Optional[str] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("cpu_m", "mem_kib", "cpu_model", "devices")
    CPU_M_FIELD_NUMBER: _ClassVar[int]
    MEM_KIB_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    cpu_m: int
    mem_kib: int
    cpu_model: str
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    def __init__(self, cpu_m: _Optional[int] = ..., mem_kib: _Optional[int] = ..., cpu_model: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("type", "id", "model")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    type: str
    id: str
    model: str
    def __init__(self, type: _Optional[str] = ..., id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "acked_through", "incarnation", "max_message_bytes", "acked_digest", "max_batches")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACKED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCHES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    acked_through: int
    incarnation: str
    max_message_bytes: int
    acked_digest: bytes
    max_batches: int
    def __init__(self, epoch: _Optional[int] = ..., acked_through: _Optional[int] = ..., incarnation: _Optional[str] = ..., max_message_bytes: _Optional[int] = ..., acked_digest: _Optional[bytes] = ..., max_batches: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Batch(_message.Message):
    __slots__ = ("sequence", "digest", "runs", "meters", "records", "run_ends")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    METERS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    RUN_ENDS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    digest: bytes
    runs: _containers.RepeatedCompositeFieldContainer[Run]
    meters: _containers.RepeatedCompositeFieldContainer[Meter]
    records: Records
    run_ends: _containers.RepeatedCompositeFieldContainer[RunEnd]
    def __init__(self, sequence: _Optional[int] = ..., digest: _Optional[bytes] = ..., runs: _Optional[_Iterable[_Union[Run, _Mapping]]] = ..., meters: _Optional[_Iterable[_Union[Meter, _Mapping]]] = ..., records: _Optional[_Union[Records, _Mapping]] = ..., run_ends: _Optional[_Iterable[_Union[RunEnd, _Mapping]]] = ...) -> None: ...

class Batches(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, batches: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("number", "key", "provider", "job_id", "job_name", "user_id", "username", "vc", "project", "namespace", "kind", "started_at_ms")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    VC_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    number: int
    key: str
    provider: str
    job_id: str
    job_name: str
    user_id: str
    username: str
    vc: str
    project: str
    namespace: str
    kind: str
    started_at_ms: int
    def __init__(self, number: _Optional[int] = ..., key: _Optional[str] = ..., provider: _Optional[str] = ..., job_id: _Optional[str] = ..., job_name: _Optional[str] = ..., user_id: _Optional[str] = ..., username: _Optional[str] = ..., vc: _Optional[str] = ..., project: _Optional[str] = ..., namespace: _Optional[str] = ..., kind: _Optional[str] = ..., started_at_ms: _Optional[int] = ...) -> None: ...

class Meter(_message.Message):
    __slots__ = ("number", "run", "type", "device", "model", "quota", "group_quota", "started_at_ms", "physical")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    GROUP_QUOTA_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PHYSICAL_FIELD_NUMBER: _ClassVar[int]
    number: int
    run: int
    type: str
    device: str
    model: str
    quota: int
    group_quota: int
    started_at_ms: int
    physical: str
    def __init__(self, number: _Optional[int] = ..., run: _Optional[int] = ..., type: _Optional[str] = ..., device: _Optional[str] = ..., model: _Optional[str] = ..., quota: _Optional[int] = ..., group_quota: _Optional[int] = ..., started_at_ms: _Optional[int] = ..., physical: _Optional[str] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("base_ms", "meter", "start_ms", "length_ms", "allocated", "used", "effective", "observed_ms")
    BASE_MS_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    START_MS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_MS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_MS_FIELD_NUMBER: _ClassVar[int]
    base_ms: int
    meter: _containers.RepeatedScalarFieldContainer[int]
    start_ms: _containers.RepeatedScalarFieldContainer[int]
    length_ms: _containers.RepeatedScalarFieldContainer[int]
    allocated: _containers.RepeatedScalarFieldContainer[int]
    used: _containers.RepeatedScalarFieldContainer[int]
    effective: _containers.RepeatedScalarFieldContainer[int]
    observed_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, base_ms: _Optional[int] = ..., meter: _Optional[_Iterable[int]] = ..., start_ms: _Optional[_Iterable[int]] = ..., length_ms: _Optional[_Iterable[int]] = ..., allocated: _Optional[_Iterable[int]] = ..., used: _Optional[_Iterable[int]] = ..., effective: _Optional[_Iterable[int]] = ..., observed_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class RunEnd(_message.Message):
    __slots__ = ("run", "ended_at_ms")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    run: int
    ended_at_ms: int
    def __init__(self, run: _Optional[int] = ..., ended_at_ms: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("first", "last", "reason")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    reason: str
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("acked_through",)
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    acked_through: int
    def __init__(self, acked_through: _Optional[int] = ...) -> None: ...

class Reject(_message.Message):
    __slots__ = ("reason", "sequence", "expected", "retry_after_ms", "detail")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Reject.Reason]
        REASON_EXPECTED_SEQUENCE: _ClassVar[Reject.Reason]
        REASON_FENCED: _ClassVar[Reject.Reason]
        REASON_NEED_DEFINITIONS: _ClassVar[Reject.Reason]
        REASON_BUSY: _ClassVar[Reject.Reason]
        REASON_CONFLICT: _ClassVar[Reject.Reason]
        REASON_INVALID: _ClassVar[Reject.Reason]
        REASON_REFUSED: _ClassVar[Reject.Reason]
    REASON_UNSPECIFIED: Reject.Reason
    REASON_EXPECTED_SEQUENCE: Reject.Reason
    REASON_FENCED: Reject.Reason
    REASON_NEED_DEFINITIONS: Reject.Reason
    REASON_BUSY: Reject.Reason
    REASON_CONFLICT: Reject.Reason
    REASON_INVALID: Reject.Reason
    REASON_REFUSED: Reject.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: Reject.Reason
    sequence: int
    expected: int
    retry_after_ms: int
    detail: str
    def __init__(self, reason: _Optional[_Union[Reject.Reason, str]] = ..., sequence: _Optional[int] = ..., expected: _Optional[int] = ..., retry_after_ms: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...
