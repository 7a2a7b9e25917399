"""The TDD engine core: frames after a trigger, and on each frame an edge that starts a DMA."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim_backend.pluto.attributes import Attribute, Channel, Device, RefusedError, fixed, number, switch

if TYPE_CHECKING:
    from sim_backend.pluto.engine import Engine

__all__ = ["Gate", "tdd_device"]

CHANNELS = 3
_PURPOSES = {"receive": 1, "transmit": 2}
_BITS = 32


@dataclass
class _Output:
    """One output of the engine."""

    enable: bool = False
    polarity: bool = False
    on: int = 0
    off: int = 0


@dataclass
class Gate:
    """State of the engine, in cycles of its clock: ``cycles`` for each sample."""

    cycles: int = 2
    connected: bool = False
    """Whether the outputs reach the DMAs: ``phaser_enable``."""
    enable: bool = False
    sync_external: bool = False
    sync_internal: bool = False
    sync_reset: bool = False
    burst_count: int = 0
    startup_delay: int = 0
    frame_length: int = 0
    internal_period: int = 0
    trigger: int | None = None
    """Tick of the trigger, if there was one since the engine was enabled."""
    outputs: list[_Output] = field(default_factory=lambda: [_Output() for _ in range(CHANNELS)])

    def pulse(self, tick: int) -> None:
        """A synchronization pulse arrives."""
        if self.enable and (self.trigger is None or self.sync_reset):
            self.trigger = tick

    def next_edge(self, tick: int, purpose: str) -> int:
        """Tick at which a DMA that is ready at ``tick`` starts.

        At once without the engine; with it, at the next edge of the output that is for it.
        """
        output = self.outputs[_PURPOSES[purpose]]
        if not (self.connected and self.enable and output.enable):
            return tick
        if self.trigger is None:
            return self._periodic(tick, output) if self.sync_internal and self.internal_period else tick
        first = self.trigger + (self.startup_delay + output.on) // self.cycles
        frame = max((self.frame_length + 1) // self.cycles, 1)
        frames = max(-(-(tick - first) // frame), 0)
        if self.burst_count and frames >= self.burst_count:
            return tick
        return first + frames * frame

    def waits(self, purpose: str) -> bool:
        """Whether a DMA has to wait for a trigger that has not come."""
        steady = self.sync_internal and self.internal_period
        return (
            self.connected
            and self.enable
            and self.outputs[_PURPOSES[purpose]].enable
            and not (self.trigger is not None or steady)
        )

    def _periodic(self, tick: int, output: _Output) -> int:
        period = max(self.internal_period // self.cycles, 1)
        first = (self.startup_delay + output.on) // self.cycles
        return first + max(-(-(tick - first) // period), 0) * period

    def state(self, tick: int) -> int:
        """0 idle, 1 armed, 2 waiting, 3 running."""
        if not self.enable:
            return 0
        if self.trigger is None:
            return 1
        return 2 if tick < self.trigger + self.startup_delay // self.cycles else 3


class _Registers:
    """Attributes of the engine; while it is enabled only its triggers can be written."""

    def __init__(self, gate: Gate, engine: Engine) -> None:
        self._gate, self._engine = gate, engine

    def _cycle_hz(self) -> float:
        return float(self._engine.rate_hz) * self._gate.cycles

    def _guarded(self, change: Callable[[str], None]) -> Callable[[str], None]:
        def write(text: str) -> None:
            if self._gate.enable:
                raise RefusedError(errno.EBUSY)
            change(text)

        return write

    def count(self, target: object, name: str, label: str, filename: str = "") -> Attribute:
        """A number of cycles or frames."""

        def change(text: str) -> None:
            value = number(text)
            if not 0 <= value < 2**_BITS:
                raise RefusedError(errno.EINVAL)
            setattr(target, name, int(value))

        return Attribute(label, filename or label, lambda: str(getattr(target, name)), self._guarded(change))

    def milliseconds(self, target: object, name: str, label: str, filename: str = "") -> Attribute:
        """The same number in milliseconds."""

        def change(text: str) -> None:
            value = number(text) * self._cycle_hz() / 1e3
            if not 0 <= value < 2**_BITS:
                raise RefusedError(errno.EINVAL)
            setattr(target, name, round(value))

        return Attribute(
            label, filename or label, lambda: f"{getattr(target, name) / self._cycle_hz() * 1e3:.6f}",
            self._guarded(change),
        )  # fmt: skip

    def flag(self, target: object, name: str, label: str = "", filename: str = "") -> Attribute:
        """A switch."""
        label = label or name

        def change(text: str) -> None:
            setattr(target, name, switch(text))

        return Attribute(label, filename or label, lambda: str(int(getattr(target, name))), self._guarded(change))

    def enable(self, text: str) -> None:
        """Arm the engine, or stop it."""
        with self._engine.change:
            self._gate.enable = switch(text)
            self._gate.trigger = None
            self._engine.change.notify_all()

    def trigger(self, text: str) -> None:
        """One pulse by hand, if a one is written."""
        if switch(text):
            self._engine.pulse()
            if self._gate.enable and self._gate.outputs[0].enable:
                self._engine.medium.wire()


def tdd_device(identity: str, engine: Engine) -> Device:
    """The device ``iio-axi-tdd-0``."""
    gate = engine.gate
    registers = _Registers(gate, engine)
    channels = []
    for index, output in enumerate(gate.outputs):
        stem = f"out_channel{index}_"
        channels.append(
            Channel(
                f"channel{index}",
                True,
                [
                    registers.flag(output, "enable", filename=f"{stem}enable"),
                    registers.flag(output, "polarity", filename=f"{stem}polarity"),
                    registers.count(output, "on", "on_raw", f"{stem}on_raw"),
                    registers.count(output, "off", "off_raw", f"{stem}off_raw"),
                    registers.milliseconds(output, "on", "on_ms", f"{stem}on_ms"),
                    registers.milliseconds(output, "off", "off_ms", f"{stem}off_ms"),
                ],
            )
        )
    attributes = [
        registers.count(gate, "burst_count", "burst_count"),
        fixed("core_id", "0"),
        Attribute("enable", "enable", lambda: str(int(gate.enable)), registers.enable),
        registers.milliseconds(gate, "frame_length", "frame_length_ms"),
        registers.count(gate, "frame_length", "frame_length_raw"),
        registers.milliseconds(gate, "internal_period", "internal_sync_period_ms"),
        registers.count(gate, "internal_period", "internal_sync_period_raw"),
        fixed("magic", "0x5444444E"),
        registers.milliseconds(gate, "startup_delay", "startup_delay_ms"),
        registers.count(gate, "startup_delay", "startup_delay_raw"),
        Attribute("state", "state", lambda: str(gate.state(engine.now()))),
        registers.flag(gate, "sync_external"),
        registers.flag(gate, "sync_internal"),
        registers.flag(gate, "sync_reset"),
        Attribute("sync_soft", "sync_soft", lambda: "0", registers.trigger),
        fixed("version", "2.0.62"),
    ]
    return Device(identity, "iio-axi-tdd-0", channels, attributes)
