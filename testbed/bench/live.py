"""What rate the whole chain keeps up with: rounds paced like a radio's stream, through the live ring.

Rounds are made, or read, before the clock starts, and then repeated with ticks and numbers of their own, so that
neither simulator nor disk is measured. A round is offered when its last sample would have come; its samples are copied
then, as a driver's would be. Bit errors of repeated rounds are judged against what they carry, and clocks jump where
the repetition begins anew: the figures here are about time and memory alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.bench.laboratory import captures as simulated
from testbed.bench.rows import BenchRow
from testbed.calibration import Calibration
from testbed.capture import Capture
from testbed.errors import RunError, UserError
from testbed.live import LiveRounds, LiveTally
from testbed.pipeline import Pipeline
from testbed.scenario import Scenario, loads

__all__ = [
    "Source",
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
symbols = 64
modulation = "16qam"
[round]
frames_per_slot = 10
frame_period_s = 2.6e-3
guard_s = 11e-3
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
velocity_mps = [-1.0, -6.4]
rcs_m2 = 2.0
"""
"""Two nodes of two antennas, everything on, frames nearly back to back."""


@dataclass(frozen=True)
class Source:
    """Rounds to repeat, and what they are processed with."""

    name: str
    scenario: Scenario
    calibration: Calibration
    rounds: Sequence[Mapping[str, Capture]]

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
    resident_before: int
    resident_after: int
    stages_s: Mapping[str, float]
    """Of all rounds processed."""
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


def repeated(rounds: Sequence[Mapping[str, Capture]]) -> Iterator[dict[str, Capture]]:
    """The rounds again and again, samples copied, each with the number and the ticks of its own; truth left out.

    Every node's counter advances alike from one repetition to the next, past all that went before, and its streams
    are counted up.
    """
    last = max(
        stretch.first_tick + stretch.samples - first.stretches[0].first_tick
        for captures in rounds
        for name, capture in captures.items()
        if (first := rounds[0].get(name)) is not None
        for stretch in capture.stretches
    )
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
            name: _moved(capture, index, turn * last, turn * streams if restarts else 0)
            for name, capture in rounds[position].items()
        }


def _moved(capture: Capture, index: int, ticks: int, streams: int) -> Capture:
    return replace(
        capture,
        round=index,
        samples=capture.samples.copy(),
        stretches=tuple(replace(each, first_tick=each.first_tick + ticks) for each in capture.stretches),
        departures=tuple(replace(each, tick=each.tick + ticks) for each in capture.departures),
        stream=capture.stream + streams,
        truth=None,
    )


def paced(source: Source, rate_hz: float, seconds: float, *, depth: int) -> Trial:
    """Outcome of a stream of ``rate_hz`` samples per second and antenna, ``seconds`` long, at least one round."""
    pipeline = Pipeline(source.scenario, calibration=source.calibration)
    live = LiveRounds(pipeline, depth=depth)
    round_s = source.samples / rate_hz
    count = max(1, round(seconds / round_s))
    before, busy = _resident_bytes(), time.process_time()
    begin = time.monotonic()
    for index, captures in zip(range(count), repeated(source.rounds), strict=False):
        ended = begin + (index + 1) * round_s
        time.sleep(max(0.0, ended - time.monotonic()))
        live.offer(index, captures, ended_s=ended)
        del captures
    live.finish()
    behind = time.monotonic() - (begin + count * round_s)
    busy = time.process_time() - busy
    results = pipeline.finish({})
    links = {(row.receiver, row.transmitter, row.round): False for row in results.links}
    for row in results.links:
        links[row.receiver, row.transmitter, row.round] |= row.valid
    return Trial(
        rate_hz, count * round_s, live.tally, behind, busy, before, _resident_bytes(), results.timing,
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
    source: Source, *, seconds: float, rate_hz: float | None, depth: int, progress: Callable[[int, str], None]
) -> list[BenchRow]:
    """Figures of the highest rate sustained, or of ``rate_hz`` where that is given.

    Raises
    ------
    RunError
        If no rate is sustained.
    """
    trials: list[Trial] = []

    def holds(rate: float, full: bool) -> bool:
        progress(len(trials), f"{rate / 1e6:.2f} MS/s{', at full length' if full else ''}")
        trials.append(paced(source, rate, seconds if full else seconds / 6, depth=depth))
        return trials[-1].kept_up

    progress(0, "warming up")
    service_s = _service_s(source)
    if rate_hz is not None:
        holds(rate_hz, True)
    elif highest_sustained(source.samples / service_s, holds) is None:
        raise RunError(f"bench live: no rate down to {trials[-1].rate_hz / 1e6:.3g} MS/s was sustained")
    return _rows(source, trials[-1], depth)


def _service_s(source: Source) -> float:
    """Shortest time that a round takes when nothing else waits."""
    pipeline = Pipeline(source.scenario, calibration=source.calibration)
    times = []
    for index, captures in zip(range(_WARM + _MEASURED), repeated(source.rounds), strict=False):
        begin = time.perf_counter()
        pipeline.process(index, captures)
        times.append(time.perf_counter() - begin)
    return min(times[_WARM:])


def _rows(source: Source, trial: Trial, depth: int) -> list[BenchRow]:
    tally = trial.tally
    given = {"nodes": len(source.rounds[0]), "antennas": source.antennas, "depth": depth}

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
    row("latency_median", "s", tally.latency_median_s)
    row("latency_worst", "s", tally.latency_worst_s)
    row("stream", "s", trial.seconds)
    row("processor_time_per_round", "s", per_round)
    row("core_share_at_30.72MS/s", "1", per_round * _GOAL_RATE_HZ / source.samples, _GOAL_SHARE)
    row("links_synchronized", "1", trial.valid_share)
    row("resident_before", "MB", trial.resident_before / 1e6)
    row("resident_after", "MB", trial.resident_after / 1e6)
    for stage, seconds in sorted(trial.stages_s.items(), key=lambda one: -one[1]):
        row("stage_time_per_round", "s", seconds / max(1, tally.processed), stage=stage)
    return rows


def _resident_bytes() -> int:
    """Memory of this process that is in use now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError as error:
        raise UserError(f"bench live: /proc/self/statm is needed to measure memory: {error.strerror}") from error
    import resource

    return pages * resource.getpagesize()
