"""The devices of this node: what they are called, who holds how much of them. Pure.

A provider refers to a device by one of these names, in `DeviceShare.id`:

- the vendor's uuid: `GPU-…`, `MIG-…`, an NPU's VDie id as `NPU-…`;
- `N`: number N as the vendor's tool lists it (NVML index, NPU logic id);
- `minor:N`: the device file `/dev/nvidiaN`;
- `phy:N`: the device file `/dev/davinciN` (NPU physical id);
- `N.M` and `nvidiaN/giM`: GPU instance M of GPU N (MIG); `nvidiaN`: GPU N by its minor;
- `pci:DDDD:BB:DD.F`: the PCI address in lower case;
- `all`: every device of the type, slices in the place of what they are cut from.

A device sampler lists them all as `Device.names`; what nobody lists stays unresolved: it is
metered under the name it was given, without a model.
"""

from agent.devices.inventory import Inventory

__all__ = ["Inventory"]
