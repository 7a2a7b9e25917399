"""What rate the live chain keeps up with: rounds paced like a radio's stream, through the live ring.

Rounds are made, or read, before the clock starts, and then repeated with ticks and numbers of their own, so that
neither simulator nor disk is measured. Between repetitions every node's counter advances by as much as its own clock
would, so that the clocks go on and can be followed. A round is offered when its last sample would have come; its
samples are copied then, as a driver's would be. The first round is acquired before the stream begins.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsp.payload import encode
from testbed.bench.laboratory import captures as simulated
from testbed.bench.rows import BenchRow
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.errors import RunError, UserError
from testbed.live import LiveRounds, LiveTally
from testbed.live_chain import LiveChain
from testbed.pipeline import Pipeline
from testbed.scenario import Scenario, loads
from testbed.schedule import dsp_waveform

__all__ = [
    "Places",
    "Source",
    "Stream",
    "Trial",
    "highest_sustained",
    "live_rows",
    "paced",
    "recorded_source",
    "repeated",
    "simulated_source",
]

_GOAL_RATE_HZ = 30.72e6
_GOAL_SHARE = 0.5
"""Of one core at that rate: 50 % to spare."""
_RENDERED = 2
_LONGEST_GAP = 1 << 18
"""Samples searched for a repetition at which all clocks are near whole samples."""
_STEP = 0.93
_STEPS = 24
_WARM = 2
_MEASURED = 3
_SCENARIO = """
[experiment]
name = "live"
seed = 11
rounds = 2
methods = ["reciprocity-mle", "reciprocity-mp", "spectral-cc", "spectral-cc-interpolated", "cacc"]
[waveform]
carrier_hz = 2.4e9
sample_rate_hz = 30.72e6
fft_size = 1024
cp_samples = 128
active_subcarriers = 800
symbols = 256
modulation = "16qam"
[round]
frames_per_slot = 8
frame_period_s = 9.7e-3
guard_s = 2e-3
start_spread_s = 0.4e-3
[[node]]
name = "west"
position_m = [0.0, 0.0]
heading_deg = 40.0
antennas = 2
clock = { offset_ppm = 4.3, offset_s = 3.2104, profile = "tcxo" }
[[node]]
name = "east"
position_m = [30.0, 4.0]
heading_deg = 140.0
antennas = 2
clock = { offset_ppm = -7.9, offset_s = -11.7331, profile = "tcxo" }
[scene]
snr_db = 20.0
[[scene.reflector]]
name = "wall"
position_m = [12.0, 34.0]
rcs_m2 = 40.0
[[scene.reflector]]
name = "cyclist"
position_m = [19.0, 41.6]
velocity_mps = [-0.4, -2.6]
rcs_m2 = 5.0
"""
"""Two nodes of two antennas, both directions in turn; frames of 256 symbols, back to back, fill 96 % of a round."""


@dataclass(frozen=True)
class Source:
    """Rounds to repeat, and what they are processed with."""

    name: str
    scenario: Scenario
    calibration: Calibration
    rounds: Sequence[Mapping[str, Capture]]

    @property
    def filled(self) -> float:
        """Share of a round's samples in which some frame arrives that is processed."""
        slots = 1 if self.scenario.round.duplex == "full" else len(self.scenario.node)
        frames = slots * self.scenario.round.frames_per_slot
        return frames * dsp_waveform(self.scenario).frame_samples / self.samples

    @property
    def samples(self) -> int:
        """Samples per antenna of the longest capture of a round."""
        return max(int(capture.samples.shape[1]) for captures in self.rounds for capture in captures.values())

    @property
    def antennas(self) -> int:
        """Of all nodes together."""
        return sum(int(capture.samples.shape[0]) for capture in self.rounds[0].values())


@dataclass(frozen=True)
class Trial:
    """What one paced stream gave."""

    rate_hz: float
    """Per antenna."""
    seconds: float
    """Length of the stream."""
    tally: LiveTally
    behind_s: float
    """From the last round's last sample until everything was processed."""
    processor_s: float
    """Processor time of the whole process, the source included."""
    acquired: int
    """Rounds that were not followed."""
    resident_before: int
    resident_after: int
    stages_s: Mapping[str, float]
    """Processor time, of all rounds processed; of the exact pipeline wall time."""
    valid_share: float
    """Share of links that some method synchronized: the chain did work."""

    @property
    def kept_up(self) -> bool:
        """Nothing was dropped, and the last round was done before another would have come.

        The ring alone would let a short stream that is too fast pass: with n rounds, up to its places, nothing drops.
        """
        return not self.tally.dropped and self.behind_s <= self.seconds / self.tally.offered


def simulated_source() -> Source:
    """Two rounds of two simulated nodes, two antennas each, 30.72 MHz, five methods."""
    scenario = loads(_SCENARIO, source="the live bench")
    return Source("simulated", scenario, Calibration.simulated(scenario), list(simulated(scenario)))


def recorded_source(folder: Path) -> Source:
    """The first rounds of a run's folder.

    Raises
    ------
    UserError
        If it is none, or holds no round.
    """
    from testbed.run_folder import open_run

    run = open_run(folder)
    rounds = [run.recordings.captures(index) for index in run.recordings.rounds[:_RENDERED]]
    return Source(str(folder), run.scenario, Calibration.of_run(folder, run.scenario), rounds)


def repeated(
    rounds: Sequence[Mapping[str, Capture]], speeds: Mapping[str, float] | None = None
) -> Iterator[dict[str, Capture]]:
    """The rounds again and again, each with the number and the ticks of its own; truth left out, samples shared.

    From one repetition to the next every node's counter advances past all that went before, by whole samples that
    stand as its clock's speed against the first node's: the clocks go on as they went.

    Parameters
    ----------
    speeds : mapping, optional
        Rate of each node's clock over the first node's; one where not given.
    """
    last = max(
        stretch.first_tick + stretch.samples - first.stretches[0].first_tick
        for captures in rounds
        for name, capture in captures.items()
        if (first := rounds[0].get(name)) is not None
        for stretch in capture.stretches
    )
    names = {name for captures in rounds for name in captures}
    advance = _advances(last, {name: (speeds or {}).get(name, 1.0) for name in names})
    streams = 1 + max(capture.stream for captures in rounds for capture in captures.values())
    restarts = any(
        rounds[0][name].stream != capture.stream
        for captures in rounds
        for name, capture in captures.items()
        if name in rounds[0]
    )
    for index in itertools.count():
        turn, position = divmod(index, len(rounds))
        yield {
            name: _moved(capture, index, turn * advance[name], turn * streams if restarts else 0)
            for name, capture in rounds[position].items()
        }


def _advances(least: int, speeds: Mapping[str, float]) -> dict[str, int]:
    """Whole samples by which each counter advances: from ``least`` on, where all are nearest to their speeds."""
    first = least + np.arange(1 if len(set(speeds.values())) < 2 else _LONGEST_GAP)
    off = np.max([np.abs(first * speed - np.rint(first * speed)) for speed in speeds.values()], axis=0)
    best = int(first[np.argmin(off)])
    return {name: round(best * speed) for name, speed in speeds.items()}


def _moved(capture: Capture, index: int, ticks: int, streams: int) -> Capture:
    return replace(
        capture,
        round=index,
        stretches=tuple(replace(each, first_tick=each.first_tick + ticks) for each in capture.stretches),
        departures=tuple(replace(each, tick=each.tick + ticks) for each in capture.departures),
        stream=capture.stream + streams,
        truth=None,
    )


class Places:
    """Room for the samples of as many rounds as the ring holds, and one that is being filled, as a driver has it."""

    def __init__(self, source: Source, depth: int) -> None:
        biggest = {
            name: max((one[name].samples for one in source.rounds if name in one), key=lambda samples: samples.size)
            for name in {name for captures in source.rounds for name in captures}
        }
        self._room = [{name: np.empty_like(samples) for name, samples in biggest.items()} for _ in range(depth + 1)]
        self._next = 0

    def filled(self, captures: Mapping[str, Capture]) -> dict[str, Capture]:
        """The captures with their samples copied into the place that is free."""
        made = {}
        for name, capture in captures.items():
            flat = self._room[self._next][name].reshape(-1)[: capture.samples.size]
            made[name] = replace(capture, samples=flat.reshape(capture.samples.shape))
            np.copyto(made[name].samples, capture.samples)
        return made

    def keep(self) -> None:
        """The place was taken: the next one is filled then."""
        self._next = (self._next + 1) % len(self._room)


class Stream:
    """A source's rounds without end and the pipeline that works on them, which has acquired the first.

    Parameters
    ----------
    source : Source
    exact : bool
        Every round by the exact pipeline.
    """

    def __init__(self, source: Source, *, exact: bool = False) -> None:
        self.source = source
        scenario, seed = source.scenario, source.scenario.experiment.seed
        rendered = len(source.rounds)
        waveform = dsp_waveform(scenario)
        origin = [next(iter(captures.values())).round for captures in source.rounds]

        def sent(identity: int, index: int, nonce: int) -> NDArray[np.complex64]:
            # Encoded anew, as every round's must be; what the repeated round carries is that of the one rendered.
            return encode(waveform, identity=identity, round_index=origin[index % rendered], seed=seed, nonce=nonce)[0]

        self.chain = None if exact else LiveChain(scenario, calibration=source.calibration, sent=sent)
        self.pipeline = Pipeline(scenario, calibration=source.calibration) if self.chain is None else self.chain
        begin = time.process_time()
        self.pipeline.process(0, _moved_all(source.rounds[0]))
        self.acquisition_s = time.process_time() - begin
        self._rounds = repeated(source.rounds, self._speeds())
        next(self._rounds)
        self.index = 0

    def next_round(self) -> tuple[int, dict[str, Capture]]:
        """Number and captures of the next round."""
        self.index += 1
        return self.index, next(self._rounds)

    @property
    def acquired(self) -> int:
        """Rounds that the chain did not follow so far."""
        return 0 if self.chain is None else self.chain.counts.acquired

    @property
    def stages_s(self) -> dict[str, float]:
        """Time of each stage so far."""
        return dict(self.pipeline.stages_s)

    def _speeds(self) -> dict[str, float]:
        """Rates of the clocks over the first node's, as the round acquired says them."""
        first = self.source.scenario.node[0].name
        speeds: dict[str, float] = {}
        for row in self.pipeline.results.links:
            if row.receiver == first and row.valid and row.cfo_hz is not None:
                carrier_hz = float(self.source.rounds[0][first].carrier_hz)
                speeds.setdefault(row.transmitter, 1.0 + row.cfo_hz / carrier_hz)
        return speeds


def _moved_all(captures: Mapping[str, Capture]) -> dict[str, Capture]:
    return {name: _moved(capture, 0, 0, 0) for name, capture in captures.items()}


def paced(stream: Stream, rate_hz: float, seconds: float, *, depth: int) -> Trial:
    """Outcome of a stream of ``rate_hz`` samples per second and antenna, ``seconds`` long, at least one round."""
    source, places = stream.source, Places(stream.source, depth)
    live = LiveRounds(stream.pipeline, depth=depth)
    round_s = source.samples / rate_hz
    count = max(1, round(seconds / round_s))
    stages, acquired, rows = stream.stages_s, stream.acquired, len(stream.pipeline.results.links)
    before, busy = _resident_bytes(), time.process_time()
    begin = time.monotonic()
    for turn in range(count):
        index, captures = stream.next_round()
        ended = begin + (turn + 1) * round_s
        time.sleep(max(0.0, ended - time.monotonic()))
        if live.offer(index, places.filled(captures), ended_s=ended):
            places.keep()
    live.finish()
    behind = time.monotonic() - (begin + count * round_s)
    busy = time.process_time() - busy
    links: dict[tuple[str, str, int], bool] = {}
    for row in stream.pipeline.results.links[rows:]:
        way = row.receiver, row.transmitter, row.round
        links[way] = links.get(way, False) or row.valid
    return Trial(
        rate_hz, count * round_s, live.tally, behind, busy, stream.acquired - acquired, before, _resident_bytes(),
        {stage: seconds - stages.get(stage, 0.0) for stage, seconds in stream.stages_s.items()},
        sum(links.values()) / len(links) if links else 0.0,
    )  # fmt: skip


def highest_sustained(start_hz: float, holds: Callable[[float, bool], bool]) -> float | None:
    """Highest rate of a falling series that holds, first briefly and then at full length; null where none does.

    ``holds`` is given a rate and whether to look at full length. Steps of 7 %.
    """
    rate = start_hz
    for _ in range(_STEPS):
        if holds(rate, False) and holds(rate, True):
            return rate
        rate *= _STEP
    return None


def live_rows(
    source: Source,
    *,
    seconds: float,
    rate_hz: float | None,
    depth: int,
    exact: bool = False,
    progress: Callable[[int, str], None],
) -> list[BenchRow]:
    """Figures of the highest rate sustained, or of ``rate_hz`` where that is given.

    Raises
    ------
    RunError
        If no rate is sustained.
    """
    trials: list[Trial] = []
    progress(0, "acquiring")
    stream = Stream(source, exact=exact)

    def holds(rate: float, full: bool) -> bool:
        progress(len(trials), f"{rate / 1e6:.2f} MS/s{', at full length' if full else ''}")
        trials.append(paced(stream, rate, seconds if full else seconds / 6, depth=depth))
        return trials[-1].kept_up

    progress(0, "warming up")
    service_s = _service_s(stream)
    if rate_hz is not None:
        holds(rate_hz, True)
    elif highest_sustained(source.samples / service_s, holds) is None:
        raise RunError(f"bench live: no rate down to {trials[-1].rate_hz / 1e6:.3g} MS/s was sustained")
    return _rows(stream, trials[-1], depth)


def _service_s(stream: Stream) -> float:
    """Shortest time that a round takes when nothing else waits."""
    times = []
    for _ in range(_WARM + _MEASURED):
        index, captures = stream.next_round()
        begin = time.perf_counter()
        stream.pipeline.process(index, captures)
        times.append(time.perf_counter() - begin)
    return min(times[_WARM:])


def _rows(stream: Stream, trial: Trial, depth: int) -> list[BenchRow]:
    tally, source = trial.tally, stream.source
    chain = "exact" if stream.chain is None else "live"
    given = {"nodes": len(source.rounds[0]), "antennas": source.antennas, "depth": depth, "chain": chain}

    def row(metric: str, unit: str, value: float | None, bound: float | None = None, stage: str | None = None) -> None:
        ratio = None if bound is None or value is None else value / bound
        rows.append(
            BenchRow(
                scenario=f"live {source.name}", method=stage, parameters=given, metric=metric, unit=unit, value=value,
                bound=bound, ratio=ratio, trials=tally.processed,
            )
        )  # fmt: skip

    rows: list[BenchRow] = []
    per_round = trial.processor_s / max(1, tally.processed)
    row("sustained_rate" if trial.kept_up else "rate_not_sustained", "MS/s", trial.rate_hz / 1e6, _GOAL_RATE_HZ / 1e6)
    row("rate_all_antennas", "MS/s", trial.rate_hz * source.antennas / 1e6)
    row("rounds_dropped", "1", float(tally.dropped))
    if stream.chain is not None:
        row("rounds_acquired", "1", float(trial.acquired))
    row("acquisition", "s", stream.acquisition_s)
    row("samples_in_frames", "1", source.filled)
    row("latency_median", "s", tally.latency_median_s)
    row("latency_worst", "s", tally.latency_worst_s)
    row("stream", "s", trial.seconds)
    row("processor_time_per_round", "s", per_round)
    row("core_share_at_30.72MS/s", "1", per_round * _GOAL_RATE_HZ / source.samples, _GOAL_SHARE)
    bare_s = bare_transforms_s(source)
    frames = len(source.rounds[0]) * (len(source.rounds[0]) - 1) * source.scenario.round.frames_per_slot
    stages = sum(trial.stages_s.values()) / max(1, tally.processed)
    row("core_share_of_stages_at_30.72MS/s", "1", stages * _GOAL_RATE_HZ / source.samples, _GOAL_SHARE)
    row("stages_over_transforms", "1", stages / frames / bare_s)
    row("scipy_transforms_of_a_frame", "s", bare_s)
    row("links_synchronized", "1", trial.valid_share)
    row("resident_before", "MB", trial.resident_before / 1e6)
    row("resident_after", "MB", trial.resident_after / 1e6)
    for stage, seconds in sorted(trial.stages_s.items(), key=lambda one: -one[1]):
        row("stage_time_per_round", "s", seconds / max(1, tally.processed), stage=stage)
    return rows


def bare_transforms_s(source: Source) -> float:
    """Processor time of the bare row transforms of one frame, one node's antennas, by scipy: the machine's pace now."""
    from scipy import fft

    waveform = source.scenario.waveform
    antennas = next(iter(source.rounds[0].values())).samples.shape[0]
    grid = np.ones((antennas, waveform.symbols, waveform.fft_size), np.complex64)
    times = []
    for _ in range(9):
        begin = time.process_time()
        fft.fft(grid, axis=2, workers=1)
        times.append(time.process_time() - begin)
    return statistics.median(times)


def _resident_bytes() -> int:
    """Memory of this process that is in use now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError as error:
        raise UserError(f"bench live: /proc/self/statm is needed to measure memory: {error.strerror}") from error
    import resource

    return pages * resource.getpagesize()
