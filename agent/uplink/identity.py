"""Who speaks to the aggregator: what a Hello says beside the spool's own position."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.backlog import Backlog
from agent.model import Device
from proto.metering.v1 import metering_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What does not change while the agent runs, and the devices as they are known now."""

    node: str
    cluster: str
    address: str
    boot_id: str
    machine_id: str
    agent_version: str
    cpu_m: int
    mem_kib: int
    cpu_model: str | None
    devices: Sequence[Device] = ()


def read_machine_id(path: Path = Path("/etc/machine-id")) -> str:
    """The host's own id, which tells a cloned spool from its original; "" where it has none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def hello_of(identity: Identity, backlog: Backlog) -> pb.Hello:
    """Introduce the agent and its spool as they are now."""
    return pb.Hello(
        node=identity.node,
        cluster=identity.cluster,
        address=identity.address,
        boot_id=identity.boot_id,
        machine_id=identity.machine_id,
        stream_id=backlog.stream_id,
        last_sequence=backlog.last_sequence,
        acked_through=backlog.acked_through,
        capacity=pb.Capacity(
            cpu_m=identity.cpu_m,
            mem_kib=identity.mem_kib,
            cpu_model=identity.cpu_model or "",
            devices=[
                pb.Device(type=device.type, id=device.id, model=device.model)
                for device in identity.devices
            ],
        ),
        agent_version=identity.agent_version,
        incarnation=backlog.incarnation,
    )
