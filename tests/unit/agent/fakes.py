"""Fakes at the agent's ports: time, job providers, samplers."""

from dataclasses import dataclass

MS = 1_000_000


@dataclass
class FakeTime:
    """Clocks that move only when told to, each by itself."""

    boot_id: str = "boot-1"
    wall: int = 1_700_000_040_000 * MS  # a whole minute
    boottime: int = 1_000_000 * MS
    monotonic: int = 1_000_000 * MS

    def wall_ns(self) -> int:
        """See `TimeSource`."""
        return self.wall

    def boottime_ns(self) -> int:
        """See `TimeSource`."""
        return self.boottime

    def monotonic_ns(self) -> int:
        """See `TimeSource`."""
        return self.monotonic

    def pass_ms(self, elapsed: int) -> None:
        """Let time pass for all clocks."""
        self.wall += elapsed * MS
        self.boottime += elapsed * MS
        self.monotonic += elapsed * MS

    def suspend_ms(self, elapsed: int) -> None:
        """Let time pass while the machine sleeps."""
        self.wall += elapsed * MS
        self.boottime += elapsed * MS

    def step_ms(self, by: int) -> None:
        """Set the wall clock."""
        self.wall += by * MS

    def reboot(self, boot_id: str) -> None:
        """Start a new boot at the wall clock as it stands."""
        self.boot_id = boot_id
        self.boottime = self.monotonic = 5_000 * MS
