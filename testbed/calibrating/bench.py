"""The radios of an experiment on the bench: opened by this process, transmitting and recording as they are told.

`isac run` leaves radios to agents that never speak to each other; a calibration wants to turn one knob at a time, and
to start streams anew when it likes. The rounds are the experiment's own, frames and slots alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from testbed import schedule
from testbed.capture import Capture
from testbed.radio import open_radio
from testbed.radio.base import Applied, Radio, RadioError, Settings, command_error
from testbed.radio_worker import frame_departures, slot_burst
from testbed.scenario import Scenario

__all__ = ["Bench"]


class Bench:
    """Radios of ``scenario``, all of them beside this machine; a context that closes them.

    Raises
    ------
    RunError
        If a radio does not answer.
    UserError
        If there is no driver for one.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._applied: dict[str, Applied] = {}
        self._radios: dict[str, Radio] = {}
        self._ether = None
        address = ""
        if any(node.in_ether for node in scenario.node):
            from testbed.radio.simulated import EtherServer

            self._ether = EtherServer(scenario)
            address = f"127.0.0.1:{self._ether.port}"
        try:
            for node in scenario.node:
                self._radios[node.name] = open_radio(scenario, node, ether=address)
        except RadioError as error:
            self.close()
            raise command_error(error) from None
        except BaseException:
            self.close()
            raise
        self._workers = ThreadPoolExecutor(len(scenario.node))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Let go of the radios."""
        for radio in self._radios.values():
            radio.close()
        if self._ether is not None:
            self._ether.close()

    def start(self) -> None:
        """Configure every radio, which starts its stream anew.

        Raises
        ------
        RunError
            If a radio cannot do what the experiment asks.
        """
        scenario = self._scenario
        for node in scenario.node:
            settings = Settings(
                carrier_hz=schedule.nominal_carrier_hz(scenario),
                rate_hz=schedule.nominal_rate_hz(scenario),
                antennas=node.antennas,
                tx_power_dbm=node.tx_power_dbm,
                start_lead_s=scenario.round.start_lead_s or 0.0,
            )
            try:
                self._applied[node.name] = self._radios[node.name].configure(settings)
            except RadioError as error:
                raise command_error(type(error)(f"{node.name}: {error}")) from None

    def round(self, index: int, amplitudes: Mapping[str, float] | None = None) -> dict[str, Capture]:
        """Captures of one round, by node; ``amplitudes`` scale what the nodes named transmit.

        Raises
        ------
        RunError
            If a radio is gone.
        """
        names = [node.name for node in self._scenario.node]

        def record(name: str) -> Capture:
            return self._record(index, name, 1.0 if amplitudes is None else amplitudes.get(name, 1.0))

        try:
            return dict(zip(names, self._workers.map(record, names), strict=True))
        except RadioError as error:
            raise command_error(error) from None

    def _record(self, index: int, name: str, amplitude: float) -> Capture:
        scenario, radio, applied = self._scenario, self._radios[name], self._applied[name]
        place = scenario.index(name)
        begin = schedule.slot_offset_samples(scenario, place)
        radio.transmit(np.float32(amplitude) * slot_burst(scenario, place, index), offset_samples=begin)
        reception = radio.receive(schedule.round_samples(scenario))
        settings = applied.details | reception.conditions
        return reception.capture(name, index, applied, frame_departures(reception, scenario, place), settings)
