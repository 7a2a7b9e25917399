"""Rounds live: acquired by the exact pipeline once, then followed.

A live stream leaves no time to look for what is known from the round before. Starts and carrier offsets of all slots
are predicted by the clocks' trackers (`testbed.link_tracks`), slots are read straight into block averages by one kernel
(`dsp.slot_reader`), and every frame is checked: its strongest delay inside the prefix, its power, and how much of it
the known elements leave unexplained. A round that fails a check, or that the trackers do not reach, goes to the exact
pipeline and is counted. From the channel state on both ways are the same code, so that the rows are the same; what the
live chain leaves out, `LiveChain.left_out` tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log10

import msgspec
import numpy as np
from numpy.typing import NDArray

from dsp.equalization import back_off
from dsp.front import Tuning
from dsp.payload import encode
from dsp.slot_reader import BlockReading, SlotReader, strongest_delay_s
from dsp.synchronization.base import Offset
from testbed import rows
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.leakage_check import leakage_lag
from testbed.link_tracks import LinkTrack
from testbed.pairs import Departed, Heard, averaged_symbols
from testbed.pipeline import Hearing, Pipeline, RoundAtWork
from testbed.results import PayloadRow
from testbed.scenario import Node, Scenario
from testbed.schedule import dsp_waveform, period_samples
from testbed.slots import Slot, quiet_offset
from testbed.targets import Echoes, max_doppler_hz

__all__ = ["LiveChain", "LiveCounts", "block_symbols", "live_scenario"]

_RECIPROCAL = ("reciprocity-mle", "reciprocity-mp", "reciprocity-structured", "auto")
_COHERENT_S = 2.5e-3
"""Symbols are averaged over at most this: a path keeps half of its power up to ±180 Hz, in both directions alike."""
_LEAST_BLOCKS = 8
_LEAST_OF_MANY = 4
"""Blocks that a frame keeps: of several the distances tell frequencies apart."""
_WORSE = 2.0
"""Growth of the unexplained part over the round before, as a power ratio, at which a frame is not believed."""
_LEVEL = 4.0
"""The same of the received power, either way."""
_NONCES = 3
"""Scramblings tried: one frame in twenty is scrambled anew, one in four hundred twice."""

Sent = Callable[[int, int, int], NDArray[np.complex64]]
"""Elements of a frame, shape (symbol, subcarrier), from the node's index, the round, and the scrambling."""


@dataclass(frozen=True)
class LiveCounts:
    """How many rounds went which way."""

    followed: int
    acquired: int
    """By the exact pipeline."""
    reasons: tuple[tuple[int, str], ...]
    """Why, by round."""


@dataclass
class _Link:
    """What one direction of a link leaves to the next round."""

    reader: SlotReader
    track: LinkTrack
    unexplained: float
    level: float | None = None


class _NotFollowedError(Exception):
    """The round has to be acquired: why."""


def live_scenario(scenario: Scenario) -> Scenario:
    """The experiment with the one method that runs live: its first that compares the two directions."""
    chosen = next((name for name in scenario.experiment.methods if name in _RECIPROCAL), _RECIPROCAL[0])
    experiment = msgspec.structs.replace(scenario.experiment, methods=(chosen,))
    return msgspec.structs.replace(scenario, experiment=experiment)


def block_symbols(scenario: Scenario) -> int:
    """Symbols that the reader averages: short against the Dopplers searched, and against any path's turn."""
    waveform = scenario.waveform
    symbol_s = (waveform.fft_size + waveform.cp_samples) / waveform.sample_rate_hz
    longest_s = min(_COHERENT_S, 0.25 / max_doppler_hz(scenario))
    least = _LEAST_BLOCKS if scenario.round.frames_per_slot == 1 else _LEAST_OF_MANY
    limit = max(1, min(int(longest_s / symbol_s), waveform.symbols // least))
    return max(size for size in range(1, limit + 1) if waveform.symbols % size == 0)


class LiveChain(Pipeline):
    """Pipeline that follows from round to round what it acquired in the first.

    Parameters
    ----------
    scenario : Scenario
        Of its methods one runs: see `live_scenario`.
    calibration : Calibration, optional
        As for `Pipeline`.
    sent : callable, optional
        Elements that a node sends; by default what the experiment's seed says.
    """

    _clock = staticmethod(time.thread_time)
    """Others' work must not count as a stage's: what is live shares its machine."""

    def __init__(self, scenario: Scenario, *, calibration: Calibration | None = None, sent: Sent | None = None) -> None:
        super().__init__(live_scenario(scenario), calibration=calibration)
        self._asked = scenario.experiment.methods
        self._waveform = dsp_waveform(scenario)
        self._elements = sent or self._encoded
        self._per_block = block_symbols(scenario)
        self._links: dict[tuple[str, str], _Link] = {}
        self._read: dict[tuple[str, str], tuple[Hearing, BlockReading]] = {}
        self._followed = 0
        self._reasons: list[tuple[int, str]] = []

    @property
    def left_out(self) -> str:
        """What of the exact results is left to `isac replay` of the recording, in words."""
        methods = [name for name in self._asked if name not in self._scenario.experiment.methods]
        parts = [f"the methods {', '.join(methods)}"] if methods else []
        return ", ".join([*parts, "payload bits", "lengths of the baselines", "pictures"])

    @property
    def counts(self) -> LiveCounts:
        """How many rounds went which way so far."""
        return LiveCounts(self._followed, len(self._reasons), tuple(self._reasons))

    def process(self, index: int, captures: Mapping[str, Capture]) -> None:
        """Take one round's captures: followed where every check holds, else by the exact pipeline."""
        self._results.events += [rows.event(index, *text) for text in self._calibration.meet(captures)]
        try:
            self._read = self._slots(index, captures)
            self._followed += 1
        except _NotFollowedError as why:
            self._read = {}
            self._reasons.append((index, str(why)))
            self._results.events.append(rows.event(index, None, "round-acquired", f"processed exactly: {why}"))
        super().process(index, captures)

    # What is read and checked ---------------------------------------------------------------------------------------

    def _slots(
        self, index: int, captures: Mapping[str, Capture]
    ) -> dict[tuple[str, str], tuple[Hearing, BlockReading]]:
        """Every link's slot, read where it is expected.

        Raises
        ------
        _NotFollowedError
            If one is not there, or fails a check.
        """
        if not self._links:
            raise _NotFollowedError("nothing was acquired before")
        departed = {}
        for node in self._scenario.node:
            if node.name not in captures:
                raise _NotFollowedError(f"no capture of {node.name}")
            if len(captures[node.name].stretches) > 1:
                raise _NotFollowedError(f"{node.name} lost samples")
            departed[node.name] = self._departure(node, captures[node.name])
        with self._timed("elements"):
            sent = {node.name: self._elements(number, index, 0) for number, node in enumerate(self._scenario.node)}
        read = {}
        for receiver in self._scenario.node:
            capture = captures[receiver.name]
            if capture.samples.dtype != np.int16:
                raise _NotFollowedError(f"{receiver.name}'s samples are no 16-bit counts")
            with self._timed("offset"):
                branches = self._branches(capture)
            for transmitter in self._scenario.node:
                if transmitter is not receiver:
                    way = receiver.name, transmitter.name
                    read[way] = self._slot(way, index, capture, departed[transmitter.name], sent, branches)
        return read

    def _departure(self, node: Node, capture: Capture) -> Departed:
        """When the node's slot left; its leakage is looked for where the stream's latency puts it."""
        held = self._departures.held(node, capture)
        if held is None:
            raise _NotFollowedError(f"when {node.name} transmits in this stream is not known yet")
        if not held.time_stamped:
            with self._timed("leakage"):
                own = dsp_waveform(self._scenario, rate_hz=capture.rate_hz, carrier_hz=capture.carrier_hz)
                lag = leakage_lag(capture, own, self._scenario.index(node.name), held.moment)
            if lag is None or abs(lag) > 1:
                seen = "is not heard" if lag is None else f"comes {lag} samples off"
                raise _NotFollowedError(f"{node.name}'s own frame {seen} where its stream's latency puts it")
        return held

    def _slot(
        self,
        way: tuple[str, str],
        index: int,
        capture: Capture,
        departed: Departed,
        sent: dict[str, NDArray[np.complex64]],
        branches: NDArray[np.float32],
    ) -> tuple[Hearing, BlockReading]:
        link = self._links.get(way)
        name = f"{way[0]}<-{way[1]}"
        if link is None:
            raise _NotFollowedError(f"{name} was not acquired before")
        place = link.track.expected(departed.moment, capture.begin)
        if isinstance(place, str):
            raise _NotFollowedError(f"{name}: {place}")
        counts: NDArray[np.int16] = np.asarray(capture.samples, np.int16)
        why = ""
        for nonce in range(_NONCES):
            if nonce:
                sent[way[1]] = self._elements(self._scenario.index(way[1]), index, nonce)
            with self._timed("channel state"):
                try:
                    reading = link.reader.read(
                        counts,
                        clock=capture.node,
                        first_tick=capture.begin.tick,
                        start=place.start,
                        cfo_hz=place.cfo_hz,
                        sent=sent[way[1]],
                        branches=branches,
                    )
                except ValueError as error:
                    raise _NotFollowedError(f"{name}: {error}") from None
            why = self._complaint(link, reading)
            if not why:
                return self._hearing(way, place.start, reading), reading
        raise _NotFollowedError(f"{name}: {why}")

    def _complaint(self, link: _Link, reading: BlockReading) -> str:
        """What is wrong with a frame, or nothing."""
        waveform = self._scenario.waveform
        size = waveform.fft_size
        early = back_off(self._waveform)
        for frame, (profile, left, level) in enumerate(
            zip(reading.profile, reading.unexplained, reading.level, strict=True)
        ):
            delay = (int(np.argmax(profile)) + size // 2) % size - size // 2
            if not -early <= delay <= waveform.cp_samples - early:
                return f"frame {frame}: strongest delay at {delay} samples, outside the prefix"
            if link.level is not None and not link.level / _LEVEL < level < link.level * _LEVEL:
                return f"frame {frame}: power went by {10 * log10(level / link.level):+.0f} dB"
            if left > _WORSE * link.unexplained:
                return (
                    f"frame {frame}: its elements leave {10 * log10(left):.0f} dB unexplained, "
                    f"{10 * log10(link.unexplained):.0f} dB the round before"
                )
        return ""

    def _hearing(self, way: tuple[str, str], start: float, reading: BlockReading) -> Hearing:
        frames = tuple(range(self._scenario.round.frames_per_slot))
        slot = Slot(self._scenario.index(way[1]), (start,), frames, reading.csi.cfo_reference_hz, ambiguous=False)
        return Hearing(slot, reading.csi, (), np.zeros(0, np.complex64))

    def _branches(self, capture: Capture) -> NDArray[np.float32]:
        """Offset and imbalance of a receiver's branches, for the reader."""
        antennas = capture.samples.shape[0]
        out = np.empty((antennas, 2, 3), np.float32)
        out[:, :, :2] = self._calibration.branches(capture.node, antennas) / capture.full_scale
        out[:, :, 2] = quiet_offset(np.asarray(capture.samples, np.int16))
        return out

    def _encoded(self, identity: int, index: int, nonce: int) -> NDArray[np.complex64]:
        seed = self._scenario.experiment.seed
        return encode(self._waveform, identity=identity, round_index=index, seed=seed, nonce=nonce)[0]

    # What a round leaves to the next --------------------------------------------------------------------------------

    def _hear(self, node: Node, index: int, current: RoundAtWork) -> None:
        if not self._read:
            super()._hear(node, index, current)
            return
        for way, (hearing, reading) in self._read.items():
            if way[0] == node.name:
                current.hearings[way] = hearing
                self._results.payload.append(
                    PayloadRow(
                        receiver=way[0], transmitter=way[1], round=index, frames=len(reading.unexplained),
                        frames_lost=0, bits=0, evm_db=10 * log10(float(np.mean(reading.unexplained))),
                        reason="live: not decoded",
                    )
                )  # fmt: skip

    def _depart(self, index: int, current: RoundAtWork) -> None:
        if not self._read:
            super()._depart(index, current)
            return
        for node in self._scenario.node:
            held = self._departures.held(node, current.captures[node.name])
            if held is not None:
                current.departed[node.name] = held

    def _sense(self, current: RoundAtWork) -> dict[tuple[str, str], Echoes]:
        found = super()._sense(current)
        with self._timed("following"):
            for way, seen in found.items():
                self._follow(way, seen, current)
        return found

    def _follow(self, way: tuple[str, str], seen: Echoes, current: RoundAtWork) -> None:
        """Tell the link's track on, or begin one where the round was acquired."""
        csi = seen.heard.csi
        held = seen.sensing.reference
        cfo_hz = csi.cfo_reference_hz + (held.cfo_hz if held.valid else 0.0)
        if self._read:
            reading = self._read[way][1]
            link = self._links[way]
            link.unexplained, link.level = float(np.mean(reading.unexplained)), float(np.mean(reading.level))
            if link.track.follow(seen.heard, reading.strongest_delay_s, cfo_hz):
                del self._links[way]  # to be acquired
            return
        self._links.pop(way, None)
        hearing = current.hearings[way]
        whole = len(hearing.slot.frames) == self._scenario.round.frames_per_slot and not hearing.slot.ambiguous
        if seen.heard.departed is None or not whole or not all(one.crc_ok for one in hearing.payload):
            return
        captures = current.captures
        sender, receiver = captures[way[1]], captures[way[0]]
        reader = SlotReader(
            dsp_waveform(self._scenario, rate_hz=sender.rate_hz, carrier_hz=sender.carrier_hz),
            Tuning(receiver.rate_hz, receiver.carrier_hz),
            per_block=self._per_block,
            frames=self._scenario.round.frames_per_slot,
            period_samples=period_samples(self._scenario),
        )
        track = LinkTrack(seen.heard, strongest_delay_s(csi), cfo_hz)
        left = float(np.mean([10 ** (one.evm_db / 10) for one in hearing.payload]))
        self._links[way] = _Link(reader, track, left)

    def _synchronize(self, index: int, found: Mapping[tuple[str, str], Echoes], current: RoundAtWork) -> rows.Offsets:
        before = len(self._results.links)
        offsets = super()._synchronize(index, found, current)
        if self._read:
            # Stated of the elements that the exact pipeline compares, which are averages over fewer symbols.
            waveform = self._waveform
            usual = averaged_symbols(waveform.symbols, waveform.symbol_s)
            blocks = waveform.symbols // self._per_block
            here = self._per_block * averaged_symbols(blocks, self._per_block * waveform.symbol_s)
            for row in self._results.links[before:]:
                if row.snr_db is not None:
                    row.snr_db -= 10 * log10(here / usual)
        return offsets

    def _baseline(
        self, forward: Heard, reverse: Heard | None, pair: tuple[Offset, Offset]
    ) -> tuple[float, float] | None:
        return None if self._read else super()._baseline(forward, reverse, pair)

    def _picture(self, index: int, seen: Echoes, current: RoundAtWork, offsets: rows.Offsets) -> None:
        if not self._read:
            super()._picture(index, seen, current, offsets)
