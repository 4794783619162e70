"""The accounts as a part of the agent's checkpoint."""

from agent.accounts.amount import Account, Amount, Interval
from agent.accounts.devices import DeviceAccount, Holding
from agent.accounts.host import HostAccount
from agent.accounts.node import Named, NodeAccounts
from agent.meterrow import dump_meter, load_meter
from agent.model import ResourceType
from agent.table import Json, Row


def dump_accounts(accounts: NodeAccounts) -> dict[str, Json]:
    """Put the accounts into JSON."""
    return {
        "position_ms": accounts.position_ms,
        "seen_ms": accounts.seen_ms,
        "unseen": _dump_intervals(accounts.unseen),
        "names": {name: list(named) for name, named in accounts.names.items()},
        "amounts": [list(amount) for amount in accounts.amounts],
        "hosts": [_dump_host(host) for host in accounts.hosts.values()],
        "devices": [_dump_device(device) for device in accounts.devices.values()],
    }


def load_accounts(row: Row) -> NodeAccounts:
    """Read them back.

    Raises:
        CheckpointError: something that cannot be missing is.
    """
    accounts = NodeAccounts(position_ms=row.integer("position_ms"), seen_ms=row.integer("seen_ms"))
    accounts.unseen = _load_intervals(row, "unseen")
    accounts.names = {name: Named(*values) for name, values in row.pairs("names")}
    accounts.amounts = [_load_amount(values) for values in row.lists("amounts")]
    for inner in row.objects("hosts"):
        host = _load_host(inner)
        accounts.hosts[host.type] = host
    for inner in row.objects("devices"):
        device = _load_device(inner)
        accounts.devices[device.device] = device
    return accounts


def _dump_intervals(intervals: list[Interval]) -> Json:
    return [list(interval) for interval in intervals]


def _load_intervals(row: Row, name: str) -> list[Interval]:
    return [
        Interval(Row.as_integer(since), None if until is None else Row.as_integer(until))
        for since, until in row.lists(name)
    ]


def _load_amount(values: list[Json]) -> Amount:
    account, type_, device, start_ms, end_ms, value, observed_ms = values
    return Amount(
        Account(str(account)),
        ResourceType(str(type_)),
        None if device is None else str(device),
        Row.as_integer(start_ms),
        Row.as_integer(end_ms),
        Row.as_integer(value),
        Row.as_integer(observed_ms),
    )


def _dump_host(host: HostAccount) -> dict[str, Json]:
    return {
        "type": host.type,
        "capacity": host.capacity,
        "attributed": {str(minute): [used] for minute, used in host.attributed.items()},
        "late": {str(minute): [used] for minute, used in host.late.items()},
        "owed": host.owed,
        "has_begun": int(host.has_begun),
        **dump_meter(host.meter),
    }


def _load_host(row: Row) -> HostAccount:
    return HostAccount(
        type=ResourceType(row.text("type")),
        capacity=row.integer("capacity"),
        meter=load_meter(row, number=0, quota=0),
        attributed={int(minute): used for minute, (used,) in row.pairs("attributed")},
        late={int(minute): used for minute, (used,) in row.pairs("late")},
        owed=row.integer("owed"),
        has_begun=bool(row.integer("has_begun")),
    )


def _dump_device(account: DeviceAccount) -> dict[str, Json]:
    return {
        "type": account.type,
        "device": account.device,
        "model": account.model,
        "opened_at_ms": account.opened_at_ms,
        "position_ms": account.position_ms,
        "down": _dump_intervals(account.down),
        "holdings": {
            str(number): [one.units, one.start_ms, *([one.end_ms] if one.end_ms else [])]
            for number, one in account.holdings.items()
        },
        "corrections": [list(amount) for amount in account.corrections],
    }


def _load_device(row: Row) -> DeviceAccount:
    return DeviceAccount(
        type=ResourceType(row.text("type")),
        device=row.text("device"),
        model=row.text("model"),
        opened_at_ms=row.integer("opened_at_ms"),
        position_ms=row.integer("position_ms"),
        holdings={int(number): Holding(*values) for number, values in row.pairs("holdings")},
        down=_load_intervals(row, "down"),
        corrections=[_load_amount(values) for values in row.lists("corrections")],
    )
