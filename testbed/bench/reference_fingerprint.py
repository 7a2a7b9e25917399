"""Reference of methods 3.4: time offset and path length by fingerprint, two-antenna CACC beside it (survey Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import partial
from math import inf, pi, sqrt
from time import perf_counter

import numpy as np
from scipy import fft

from dsp import SPEED_OF_LIGHT_MPS
from dsp.bounds.fingerprint import (
    cacc_delay_std_s,
    fingerprint_scene_std_s,
    fingerprint_target_std_s,
    fingerprint_to_std_s,
)
from dsp.bounds.link import doppler_std_hz
from dsp.channel import ChannelState, ComplexArray, FloatArray
from dsp.moment import Moment
from dsp.synchronization.base import Need, Observation, Offset
from dsp.synchronization.cacc import CrossAntennaCorrelation
from dsp.synchronization.fingerprint import FingerprintMethod, take_fingerprint
from testbed.bench.rows import BenchRow, rmse_row, share_row, time_row

__all__ = ["SUBCARRIERS", "Broken", "Trial", "cacc_path_length_m", "draw", "points", "rows", "validity_rows"]

SUBCARRIERS = (64, 128, 256, 512, 1024)
SPACING_HZ = 120e3
SYMBOL_S = 0.25e-3
SYMBOLS = 64
STATIC_PATHS = 6
TARGET_DB = -10.0
SNR_DB = 0.0
CARRIER_HZ = Fraction(28_000_000_000)
"""Not stated by the reference; it enters through the sampling offset and range migration that go with it."""
LOS_DELAY_S = 50e-9
LOS_EXCESS_DB = 10.0
"""Line of sight over all other static paths together: what CACC needs."""

_OUTLIER_BOUNDS = 8.0
_WRONG = 5.0
_LEAST_DOPPLER_HZ = 100.0
_GREATEST_DOPPLER_HZ = 1900.0


class Broken(StrEnum):
    """An assumption of the method that the second slot breaks."""

    SCENE = "another scene"
    PATH = "one path moved"
    MOVER = "mover 3 to 20 dB above the static paths"
    NOTHING_STATIC = "nothing static"


@dataclass(frozen=True)
class Trial:
    """One draw: the scene seen twice."""

    before: ChannelState
    """Slot from which the fingerprint is taken."""
    after: ChannelState
    departures: tuple[Moment, Moment]
    to_s: tuple[float, float]
    """True time offset at the middle of either slot."""
    cfo_hz: tuple[float, float]
    target_delay_s: float
    """Path delay of the target at the middle of the second slot."""
    scene_std_s: float
    """Bound on the offset's change for the static channel as drawn."""


def draw(
    generator: np.random.Generator,
    subcarriers: int,
    *,
    line_of_sight: bool,
    snr_db: float = SNR_DB,
    target_db: float = TARGET_DB,
    antennas: int = 1,
    broken: Broken | None = None,
) -> Trial:
    """Six static paths of unit power and one target, seen twice at offsets of ±100 ns and ±400 Hz.

    Static delays 0.1 to 1.5 µs with complex Gaussian gains; with ``line_of_sight`` the first path comes at 50 ns and is
    10 dB above the rest. The target's delay is 0.2 to 1.5 µs in either slot, its Doppler 0.1 to 1.9 kHz of either sign.
    ``broken`` is the assumption that the second slot breaks.
    """
    gains = _complex_normal(generator, (STATIC_PATHS,))
    delays_s = generator.uniform(0.1e-6, 1.5e-6, STATIC_PATHS)
    if line_of_sight:
        delays_s[0] = LOS_DELAY_S
        gains[0] *= sqrt(10.0 ** (LOS_EXCESS_DB / 10.0)) * np.linalg.norm(gains[1:]) / abs(gains[0])
    gains = _unit(gains)
    sines = generator.uniform(-1.0, 1.0, STATIC_PATHS + 1)
    f = (np.arange(subcarriers) - (subcarriers - 1) / 2) * SPACING_HZ
    t = (np.arange(SYMBOLS) - (SYMBOLS - 1) / 2) * SYMBOL_S
    noise = 10.0 ** (-snr_db / 10.0)
    array = np.exp(1j * pi * np.outer(np.arange(antennas), sines))
    static = np.einsum("u,au,ku->ak", gains, array[:, :-1], np.exp(-2j * pi * np.outer(f, delays_s)))
    stretch = 1.0 + f / float(CARRIER_HZ)
    states, offsets, frequencies, target_s = [], [], [], 0.0
    for slot in range(2):
        dopplers_hz = np.zeros(STATIC_PATHS)
        if slot == 1 and broken is Broken.SCENE:
            gains, delays_s = _unit(_complex_normal(generator, gains.shape)), generator.uniform(0.1e-6, 1.5e-6, 6)
        elif slot == 1 and broken is Broken.PATH:
            delays_s = np.append(delays_s[:-1], generator.uniform(0.1e-6, 1.5e-6))
        elif slot == 1 and broken is Broken.NOTHING_STATIC:
            dopplers_hz = generator.uniform(-_GREATEST_DOPPLER_HZ, _GREATEST_DOPPLER_HZ, STATIC_PATHS)
        elif slot == 1 and broken is Broken.MOVER:
            target_db = float(generator.uniform(3.0, 20.0))
        target_s = float(generator.uniform(0.2e-6, 1.5e-6))
        doppler_hz = float(generator.choice([-1, 1]) * generator.uniform(_LEAST_DOPPLER_HZ, _GREATEST_DOPPLER_HZ))
        target = sqrt(10.0 ** (target_db / 10.0)) * np.exp(2j * pi * generator.uniform())
        moving = target * np.exp(2j * pi * (np.outer(t * doppler_hz, stretch) - target_s * f))
        to_s, cfo_hz = float(generator.uniform(-100e-9, 100e-9)), float(generator.uniform(-400.0, 400.0))
        turn = np.exp(2j * pi * (np.outer(t * cfo_hz, stretch) - to_s * f))
        held = np.exp(-2j * pi * np.outer(f, delays_s)) * gains
        paths = np.exp(2j * pi * np.outer(t, dopplers_hz))
        scene = np.einsum("lu,au,ku->alk", paths, array[:, :-1], held)
        values = (scene + array[:, -1, None, None] * moving) * turn
        values = values + sqrt(noise) * _complex_normal(generator, values.shape)
        states.append(_state(values, f, t, noise, tick=slot * 1_000_000))
        offsets.append(to_s)
        frequencies.append(cfo_hz)
    departures = tuple(replace(state.reference, clock="m") for state in states)
    variance = np.full(subcarriers, 2.0 * noise / SYMBOLS)
    return Trial(
        before=states[0],
        after=states[1],
        departures=(departures[0], departures[1]),
        to_s=(offsets[0], offsets[1]),
        cfo_hz=(frequencies[0], frequencies[1]),
        target_delay_s=target_s,
        scene_std_s=fingerprint_scene_std_s(f, static[0], variance),
    )


def cacc_path_length_m(csi: ChannelState, los_delay_s: float) -> float:
    """Path length of the strongest mover by two-antenna FFT CACC: survey equation 32, peak refined by parabolas.

    The conjugate product of the antennas has its mean over symbols subtracted; the strongest cell at a positive
    delay against the line of sight is the target, its mirror image at negative delay is left out.
    """
    product = csi.values[1] * np.conj(csi.values[0])
    product = product - product.mean(axis=0)
    symbols, subcarriers = product.shape
    shape = (4 * symbols, 4 * subcarriers)
    power = np.abs(fft.fft(fft.ifft(product, n=shape[1], axis=1), n=shape[0], axis=0)) ** 2
    step_s = 1.0 / (shape[1] * SPACING_HZ)
    inside = power[:, : shape[1] // 4]
    row, column = (int(index) for index in np.unravel_index(int(np.argmax(inside)), inside.shape))
    left, peak, right = (float(power[row, (column + step) % shape[1]]) for step in (-1, 0, 1))
    offset = 0.5 * (left - right) / (left - 2.0 * peak + right) if left + right < 2.0 * peak else 0.0
    return float(SPEED_OF_LIGHT_MPS * ((column + offset) * step_s + los_delay_s))


def points(
    trials: int, seed: int, *, subcarriers: Sequence[int] = SUBCARRIERS, snr_db: float = SNR_DB, lengths: bool = False
) -> list[partial[list[BenchRow]]]:
    """One piece of work for each number of subcarriers, with and without line of sight; the longest first.

    With ``lengths`` the path lengths by CACC too, on the FFT's grid and by `cacc`.
    """
    return [
        partial(_point, trials, seed, count, sight, snr_db, lengths)
        for count in sorted(subcarriers, reverse=True)
        for sight in (True, False)
    ]


def rows(trials: int, seed: int, *, subcarriers: Sequence[int] = SUBCARRIERS, snr_db: float = SNR_DB) -> list[BenchRow]:
    """Figures of the fingerprint and of CACC for each number of subcarriers, with and without line of sight."""
    work = points(trials, seed, subcarriers=subcarriers, snr_db=snr_db, lengths=True)
    return [row for point in work for row in point()]


def _point(
    trials: int, seed: int, subcarriers: int, line_of_sight: bool, snr_db: float, lengths: bool
) -> list[BenchRow]:
    generator = np.random.default_rng([seed, subcarriers, int(line_of_sight)])
    return _figures(generator, subcarriers, trials, line_of_sight=line_of_sight, snr_db=snr_db, cacc=lengths)


def validity_rows(
    trials: int, seed: int, *, subcarriers: int = 64, snr_db: float = 10.0, kinds: Sequence[Broken | None] | None = None
) -> list[BenchRow]:
    """Share of false rejections with every assumption intact, and of silently wrong offsets for each one broken.

    Wrong is an offset stated as valid that errs by more than five of its stated deviations.
    """
    made = []
    for number, broken in enumerate((None, *Broken) if kinds is None else kinds):
        generator = np.random.default_rng([seed, number])
        rejected = wrong = 0
        for _ in range(trials):
            trial = draw(generator, subcarriers, line_of_sight=False, snr_db=snr_db, broken=broken)
            offset = _offset(trial)
            if offset is None or offset.to_s is None or offset.to_std_s is None:
                rejected += 1
            elif abs(offset.to_s - trial.to_s[1]) > _WRONG * offset.to_std_s:
                wrong += 1
        counted = [("silent_wrong_rate", wrong, 0.01)]
        counted.append(("false_rejection_rate", rejected, 0.02) if broken is None else ("invalid_share", rejected, 1.0))
        for metric, count, goal in counted:
            row = share_row("fingerprint validity", "fingerprint", metric, count, trials, goal)
            row.parameters = {"broken": "nothing" if broken is None else str(broken), "snr_db": snr_db}
            made.append(row)
    return made


def _offset(trial: Trial) -> Offset | None:
    """What the method says of the second slot; None if invalid, or if the first gives no fingerprint."""
    try:
        fingerprint = take_fingerprint(trial.before, trial.departures[0], transmitter="m", to_s=trial.to_s[0])
    except ValueError:
        return None
    seen = Observation(trial.after, trial.departures[1], extras={Need.FINGERPRINT: fingerprint})
    offset = FingerprintMethod().estimate(seen)
    return offset if offset.valid else None


def _figures(
    generator: np.random.Generator, subcarriers: int, trials: int, *, line_of_sight: bool, snr_db: float, cacc: bool
) -> list[BenchRow]:
    offsets, normalised, scene, frequencies, lengths, seconds, missed = [], [], [], [], [], [], 0
    beside = _Cacc()
    for _ in range(trials):
        trial = draw(generator, subcarriers, line_of_sight=line_of_sight, snr_db=snr_db, antennas=2)
        started = perf_counter()
        offset = _offset(trial)
        seconds.append(perf_counter() - started)
        if cacc:
            beside.add(trial)
        if offset is None or offset.to_s is None or offset.cfo_hz is None or offset.to_std_s is None:
            missed += 1
            continue
        offsets.append(offset.to_s - trial.to_s[1])
        scene.append(offsets[-1] / trial.scene_std_s)
        normalised.append(offsets[-1] / offset.to_std_s)
        frequencies.append(offset.cfo_hz - trial.cfo_hz[1])
        movers = offset.details["movers"]
        if not movers:
            lengths.append(inf)
            continue
        apparent_s = movers[0].delay_s - trial.to_s[0]
        lengths.append(SPEED_OF_LIGHT_MPS * (apparent_s - trial.target_delay_s))
    size = (subcarriers, SPACING_HZ, SYMBOLS)
    snr = 10.0 ** (snr_db / 10.0)
    target_snr = snr * 10.0 ** (TARGET_DB / 10.0)
    to_bound = fingerprint_to_std_s(*size, snr)
    length_bound = SPEED_OF_LIGHT_MPS * fingerprint_target_std_s(*size, snr, target_snr)
    cfo_bound = doppler_std_hz(subcarriers, SYMBOLS, SYMBOL_S, snr)
    name = "fingerprint"
    made = [
        rmse_row("fingerprint", name, "to_rmse", "s", offsets, to_bound),
        share_row("fingerprint", name, "valid_share", trials - missed, trials, 0.98),
        _bias_row(offsets, to_bound),
        rmse_row("fingerprint", name, "to_rmse_by_scene_bound", "1", scene, 1.0),
        rmse_row("fingerprint", name, "to_nees_root", "1", normalised, 1.0),
        rmse_row("fingerprint", name, "cfo_rmse", "Hz", frequencies, cfo_bound),
        *_lengths(name, lengths, length_bound, missed),
        time_row("fingerprint", name, seconds),
        *(beside.rows(SPEED_OF_LIGHT_MPS * cacc_delay_std_s(*size, snr, target_snr)) if cacc else ()),
    ]
    parameters = {"subcarriers": subcarriers, "line_of_sight": line_of_sight, "snr_db": snr_db}
    for row in made:
        row.parameters = dict(parameters)
    return made


class _Cacc:
    """Path length of the strongest mover by CACC: on the FFT's grid, and by `cacc`, which knows when not to."""

    def __init__(self) -> None:
        self._on_grid: list[float] = []
        self._mirrored: list[float] = []
        self._seconds: list[float] = []
        self._invalid = 0

    def add(self, trial: Trial) -> None:
        """One trial."""
        true_m = SPEED_OF_LIGHT_MPS * trial.target_delay_s
        self._on_grid.append(cacc_path_length_m(trial.after, LOS_DELAY_S) - true_m)
        started = perf_counter()
        offset = CrossAntennaCorrelation().estimate(Observation(trial.after, None))
        self._seconds.append(perf_counter() - started)
        if not offset.valid:
            self._invalid += 1
            return
        paths = offset.details["sensing"].paths
        self._mirrored.append(SPEED_OF_LIGHT_MPS * (paths[0].delay_s + LOS_DELAY_S) - true_m if paths else inf)

    def rows(self, bound: float) -> list[BenchRow]:
        """Figures of both; ``bound`` is that of one cross term, which the FFT looks at: both tell √2 more."""
        valid = len(self._mirrored)
        return [
            *_lengths("cacc-fft", self._on_grid, bound, 0),
            *_lengths("cacc", self._mirrored, bound / sqrt(2.0), self._invalid),
            share_row("fingerprint", "cacc", "valid_share", valid, valid + self._invalid, 0.98),
            time_row("fingerprint", "cacc", self._seconds),
        ]


def _lengths(name: str, errors: Sequence[float], bound: float, missed: int) -> list[BenchRow]:
    """Root mean square of all finite errors, of those that found the target, and the share that did not."""
    array = np.asarray(errors)
    near = np.abs(array) <= _OUTLIER_BOUNDS * bound
    trials = len(array) + missed
    lost = (trials - int(np.count_nonzero(near))) / trials
    return [
        rmse_row("fingerprint", name, "range_rmse", "m", list(array[near]), bound),
        rmse_row("fingerprint", name, "range_rmse_all", "m", list(array[np.isfinite(array)]), bound),
        BenchRow(
            scenario="fingerprint", method=name, metric="outlier_rate", unit="1", value=lost, trials=trials,
            standard_error=sqrt(lost * (1.0 - lost) / trials),
        ),
    ]  # fmt: skip


def _bias_row(errors: Sequence[float], bound: float) -> BenchRow:
    array = np.asarray(errors)
    bias = float(array.mean()) if array.size else None
    return BenchRow(
        scenario="fingerprint", method="fingerprint", metric="to_bias", unit="s", value=bias, bound=bound,
        ratio=None if bias is None else bias / bound, trials=array.size,
        standard_error=float(array.std(ddof=1)) / sqrt(array.size) if array.size > 1 else None,
    )  # fmt: skip


def _state(values: ComplexArray, f: FloatArray, t: FloatArray, noise: float, *, tick: int) -> ChannelState:
    rate_hz = Fraction(round(SPACING_HZ) * values.shape[-1])
    return ChannelState(
        values=values,
        weights=np.ones(values.shape[1:]),
        subcarrier_hz=f,
        symbol_s=t,
        reference=Moment("n", tick, 0.0, rate_hz),
        cfo_reference_hz=0.0,
        carrier_hz=CARRIER_HZ,
        noise=np.full(values.shape[0], noise),
        frame_of_symbol=np.zeros(len(t), dtype=np.intp),
    )


def _unit(gains: ComplexArray) -> ComplexArray:
    return np.asarray(gains / np.linalg.norm(gains))


def _complex_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> ComplexArray:
    values: ComplexArray = generator.normal(size=(*shape, 2), scale=sqrt(0.5)).view(np.complex128)[..., 0]
    return values
