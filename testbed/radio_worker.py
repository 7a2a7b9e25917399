"""The thread that works a node's radio: builds the slot, transmits and records it, round by round."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from testbed import schedule
from testbed.capture import Departure
from testbed.errors import RunError, UserError
from testbed.protocol import Failed
from testbed.radio import open_radio
from testbed.radio.base import Applied, Radio, RadioError, Reception, RefusalError, Settings
from testbed.scenario import Scenario, loads
from testbed.transmit_correction import SETTING, Correction

__all__ = ["RadioWorker", "Recorded", "frame_departures", "slot_burst"]


@dataclass(frozen=True)
class Recorded:
    """A round as the radio recorded it."""

    round: int
    reception: Reception
    applied: Applied
    departures: tuple[Departure, ...]
    """One for each frame of the slot; empty where the device stamps none."""


class RadioWorker:
    """A thread that owns the radio of the node ``name``; `record` asks, ``answer`` is called in the thread.

    Everything that takes its time, reading ``scenario`` included, happens in the thread. After a `Failed` answer it
    is dead.
    """

    def __init__(
        self, scenario: str, name: str, *, ether: str, answer: Callable[[Applied | Failed | Recorded], None]
    ) -> None:
        self._text = scenario
        self._name = name
        self._ether = ether
        self._answer = answer
        self._rounds: queue.SimpleQueue[tuple[int, Correction | None] | None] = queue.SimpleQueue()
        self._radio: Radio | None = None
        # A daemon: a device that hangs must not keep the agent from ending.
        self._thread = threading.Thread(target=self._work, name=f"radio of {name}", daemon=True)
        self._thread.start()

    def record(self, index: int, correction: Correction | None = None) -> None:
        """Transmit and record round ``index`` after those asked for before; the correction is of its joint slot."""
        self._rounds.put((index, correction))

    def close(self) -> None:
        """Let go of the radio."""
        self._rounds.put(None)
        if self._radio is not None:
            self._radio.close()
        self._thread.join(timeout=1.0)

    def _work(self) -> None:
        try:
            scenario = loads(self._text, source="the coordinator's experiment", methods_here=False)
            index = scenario.index(self._name)
            node = scenario.node[index]
            self._radio = radio = open_radio(scenario, node, ether=self._ether)
            applied = radio.configure(
                Settings(
                    carrier_hz=schedule.nominal_carrier_hz(scenario),
                    rate_hz=schedule.nominal_rate_hz(scenario),
                    antennas=node.antennas,
                    tx_power_dbm=node.tx_power_dbm,
                    start_lead_s=scenario.round.start_lead_s or 0.0,
                )
            )
            self._answer(applied)
            while (wanted := self._rounds.get()) is not None:
                self._answer(_recorded(scenario, index, radio, applied, *wanted))
        except (RadioError, RunError, UserError, OSError) as error:
            self._answer(Failed(str(error), refused=isinstance(error, (RefusalError, UserError))))
        except Exception as error:
            # The agent must not live on with a dead radio, whatever the reason.
            self._answer(Failed(f"{type(error).__name__}: {error}"[:2000]))
            raise
        finally:
            if self._radio is not None:
                self._radio.close()


def _recorded(
    scenario: Scenario, node: int, radio: Radio, applied: Applied, index: int, correction: Correction | None
) -> Recorded:
    begin = schedule.slot_offset_samples(scenario, node)
    radio.transmit(slot_burst(scenario, node, index), offset_samples=begin)
    if scenario.signalling is not None:
        from testbed.joint_slot import joint_burst

        together = joint_burst(scenario, node, index, correction)
        if together is not None:
            offset = schedule.joint_offset_samples(scenario) - together.earlier
            radio.transmit(together.samples, offset_samples=offset)
            if correction is not None:
                applied = replace(applied, details=applied.details | {SETTING: asdict(correction)})
    reception = radio.receive(schedule.round_samples(scenario))
    reception = replace(reception, samples=np.ascontiguousarray(reception.samples))
    return Recorded(index, reception, applied, frame_departures(reception, scenario, node))


def frame_departures(reception: Reception, scenario: Scenario, node: int) -> tuple[Departure, ...]:
    """Departure of each frame of a node's slot: the device stamps the burst, whose frames follow at whole samples of
    the same counter; empty where it stamps none."""
    begin = schedule.slot_offset_samples(scenario, node)
    return tuple(
        Departure(frame, stamp.tick + offset - begin, stamp.fraction)
        for stamp in reception.departures[:1]
        for frame, offset in enumerate(schedule.frame_offsets_samples(scenario, node))
    )


def slot_burst(scenario: Scenario, node: int, index: int) -> NDArray[np.complex64]:
    """Samples of the slot of node ``node`` in round ``index``: its frames, silence between, none after the last.

    Built at the nominal rate, so that every node and every replay makes the same frame.
    """
    from dsp.waveform import frame

    waveform = schedule.dsp_waveform(scenario)
    samples = frame(waveform, identity=node, round_index=index, seed=scenario.experiment.seed).samples
    offsets = schedule.frame_offsets_samples(scenario, node)
    burst = np.zeros(offsets[-1] - offsets[0] + len(samples), np.complex64)
    for offset in offsets:
        burst[offset - offsets[0] :][: len(samples)] = samples
    return burst
