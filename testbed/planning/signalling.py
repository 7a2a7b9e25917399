"""A signalling experiment: its file, the channels and echoes that follow from it, and the design."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from dsp import SPEED_OF_LIGHT_MPS
from dsp.channel import ComplexArray, FloatArray
from dsp.network.cooperation import Cooperation
from dsp.network.design import Demand, Design, InfeasibleError, UnsolvedError, design_precoders
from dsp.network.sensing_information import Geometry, InformationTerms, information_terms, position_crlb
from dsp.network.spectral_design import SpectralDesign, Spectrum, design_over_band, spectral_terms
from testbed.errors import RunError, UserError
from testbed.planning.symbol_level import SymbolLevel, symbol_level
from testbed.precoders import PrecoderFile
from testbed.toml_file import read_toml

__all__ = ["Signalling", "SignallingFile", "block_middles_hz", "load_signalling", "precoder_file", "solve"]

_BOLTZMANN_290K = 1.380649e-23 * 290.0
Place = Annotated[list[float], Meta(min_length=2, max_length=2)]
Positive = Annotated[float, Meta(gt=0)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: unknown keys are errors."""


class _Design(_Table, frozen=True, kw_only=True):
    """What is designed, and under which demands."""

    name: str
    mode: Literal["coordinated", "non-coherent", "coherent"] = "coherent"
    """How the stations serve the users together."""
    sensing: Literal["non-coherent", "coherent"] = "non-coherent"
    """Whether echoes' carrier phases, synchronized between the stations, tell the position too."""
    sinr_db: float | list[float] = 10.0
    """Least signal to interference and noise ratio, of all users or of each."""
    antenna_power_w: Positive = 0.1
    """Most that an antenna sends."""
    timing_std_s: Annotated[float, Meta(ge=0)] = 0.0
    """Deviation of each station's clock, which the design allows for; 0: synchronous."""
    spectrum: Literal["flat", "optimal", "orthogonal", "beamforming"] = "flat"
    """Whether precoders differ over the band: "flat": one for all of it; "optimal": directions and powers;
    "orthogonal": likewise, with stations' sensing in turns; "beamforming": directions alone."""
    blocks: Annotated[int, Meta(ge=2, le=64)] = 8
    """Of subcarriers, each with precoders of its own, unless flat."""
    symbol_level: bool = False
    """Whether to say too what precoding of every symbol by itself would reach, where mode is "coherent"."""


class _Radio(_Table, frozen=True, kw_only=True):
    """What all stations have in common."""

    carrier_hz: Positive
    bandwidth_hz: Positive
    antennas: Annotated[int, Meta(ge=1, le=64)] = 4
    """Of each station, half a wavelength apart."""
    noise_figure_db: float = 7.0
    interval_s: Positive = 1e-3
    """Over which an echo is integrated."""


class _Station(_Table, frozen=True, kw_only=True):
    position_m: Place
    heading_deg: float = 0.0
    """Direction of the array's broadside, counter-clockwise from the x axis."""


class _User(_Table, frozen=True, kw_only=True):
    position_m: Place


class _Target(_Table, frozen=True, kw_only=True):
    position_m: Place
    rcs_m2: Positive = 1.0


class SignallingFile(_Table, frozen=True, kw_only=True):
    """A signalling experiment as its file states it."""

    design: _Design
    radio: _Radio
    station: Annotated[list[_Station], Meta(min_length=1)]
    user: list[_User] = []
    target: _Target


@dataclass(frozen=True)
class Signalling:
    """The experiment in numbers, and its design."""

    said: SignallingFile
    geometry: Geometry
    terms: InformationTerms
    demand: Demand
    design: Design
    """Where precoders differ over the band, all of them, weighted to mean powers; SINR is the least of the blocks."""
    spectral: SpectralDesign | None = None
    symbols: SymbolLevel | None = None

    @property
    def unconstrained_m2(self) -> float:
        """Bound with every antenna of every station aimed at the target all over the band, no user served."""
        full = self.demand.antenna_power * self.geometry.antennas**2
        return position_crlb(self.terms.at(np.full(len(self.terms.station), full)))


def load_signalling(path: Path) -> SignallingFile:
    """Experiment in the file ``path``.

    Raises
    ------
    UserError
        One line: the file, the key, what is wrong.
    """
    said = read_toml(path, SignallingFile)
    wanted = said.design.sinr_db
    if isinstance(wanted, list) and len(wanted) != len(said.user):
        raise UserError(
            f"{path}: design.sinr_db has {len(wanted)} values for {len(said.user)} users: give one for each"
        )
    if said.design.spectrum != "flat" and (said.design.sensing == "coherent" or said.design.timing_std_s > 0):
        raise UserError(
            f'{path}: design.spectrum is "{said.design.spectrum}", which is for echoes by delay and angle of '
            'synchronous stations: leave design.sensing and design.timing_std_s out, or use "flat"'
        )
    if said.design.symbol_level and said.design.mode != "coherent":
        raise UserError(
            f'{path}: design.symbol_level is true, but design.mode is "{said.design.mode}": use "coherent", for '
            "symbols are made of the fields of all stations"
        )
    target = np.array(said.target.position_m)
    for number, station in enumerate(said.station, start=1):
        for what, place in (("target", target), *(("a user", np.array(user.position_m)) for user in said.user)):
            if np.linalg.norm(place - np.array(station.position_m)) < 1.0:
                raise UserError(f"{path}: station {number} stands within a metre of {what}: move one of them")
    return said


def solve(said: SignallingFile, *, source: str) -> Signalling:
    """Design of the experiment.

    Raises
    ------
    UserError
        If the demands cannot be met, the layout leaves a direction open, or cvxpy is not installed.
    RunError
        If the solver fails.
    """
    stations = np.array([one.position_m for one in said.station], dtype=float)
    geometry = Geometry(
        stations_m=stations,
        headings_rad=np.radians([one.heading_deg for one in said.station]),
        antennas=said.radio.antennas,
        target_m=np.array(said.target.position_m, dtype=float),
        carrier_hz=said.radio.carrier_hz,
        bandwidth_hz=said.radio.bandwidth_hz,
    )
    terms = information_terms(
        geometry, _echo_snr(said, geometry), coherent=said.design.sensing == "coherent",
        timing_std_s=said.design.timing_std_s,
    )  # fmt: skip
    full = terms.at(np.full(len(stations), said.design.antenna_power_w * said.radio.antennas))
    if not np.isfinite(position_crlb(full)):
        raise UserError(
            f"{source}: with {len(stations)} station(s) a direction of the target's position stays open: move the "
            "stations off one line with it, or give them more antennas"
        )
    wanted = said.design.sinr_db
    demand = Demand(
        channels=_channels(said, geometry),
        noise=_noise_w(said),
        sinr=10 ** (np.array(wanted if isinstance(wanted, list) else [wanted] * len(said.user)) / 10),
        antenna_power=said.design.antenna_power_w,
        mode=Cooperation(said.design.mode),
    )
    spectral = None
    try:
        if said.design.spectrum == "flat":
            design = design_precoders(geometry, terms, demand)
        else:
            spectral = _over_band(said, geometry, demand)
            design = _as_one(spectral)
        symbols = symbol_level(geometry, terms, demand) if said.design.symbol_level else None
    except InfeasibleError as error:
        raise UserError(f"{source}: design.sinr_db: {error}") from None
    except UnsolvedError as error:
        raise RunError(f"{source}: {error}") from None
    except ModuleNotFoundError:
        raise UserError("isac signalling needs cvxpy: pip install 'isac-testbed[design]'") from None
    except ValueError as error:
        raise UserError(f"{source}: design.symbol_level: {error}") from None
    return Signalling(said, geometry, terms, demand, design, spectral, symbols)


def block_middles_hz(bandwidth_hz: float, blocks: int) -> FloatArray:
    """Middles of equal blocks of a band, from the carrier."""
    return bandwidth_hz * ((np.arange(blocks) + 0.5) / blocks - 0.5)


def _over_band(said: SignallingFile, geometry: Geometry, demand: Demand) -> SpectralDesign:
    """Design with precoders for every block."""
    middles = block_middles_hz(said.radio.bandwidth_hz, said.design.blocks)
    return design_over_band(
        geometry,
        spectral_terms(geometry, _echo_snr(said, geometry), middles),
        np.stack([_channels(said, geometry, offset) for offset in middles]),
        demand,
        Spectrum(said.design.spectrum),
    )


def _as_one(spectral: SpectralDesign) -> Design:
    """The design over the band as if its blocks' streams were sent side by side, each for its share of the band."""
    count, streams, stations, antennas = spectral.precoders.shape
    return Design(
        precoders=spectral.precoders.reshape(count * streams, stations, antennas) / np.sqrt(count),
        crlb_m2=spectral.crlb_m2,
        bound_m2=spectral.bound_m2,
        sinr=spectral.sinr.min(axis=0),
        antenna_power=spectral.antenna_power,
        seconds=spectral.seconds,
    )


def precoder_file(done: Signalling) -> PrecoderFile:
    """Precoders as an experiment takes them, with what they promise."""
    said = done.said
    precoders = done.design.precoders[None] if done.spectral is None else done.spectral.precoders
    middles = block_middles_hz(said.radio.bandwidth_hz, len(precoders))
    channels = np.stack([_channels(said, done.geometry, offset) for offset in middles])
    parts = np.stack([precoders.real, precoders.imag], axis=-1)
    return msgspec.convert(
        {
            "name": said.design.name,
            "mode": said.design.mode,
            "carrier_hz": said.radio.carrier_hz,
            "bandwidth_hz": said.radio.bandwidth_hz,
            "interval_s": said.radio.interval_s,
            "noise_figure_db": said.radio.noise_figure_db,
            "timing_std_s": said.design.timing_std_s,
            "sinr": _over_blocks(channels, precoders, done.demand).tolist(),
            "position_rmse_m": done.design.crlb_m2**0.5,
            "block_hz": middles.tolist(),
            "precoders": parts.tolist(),
        },
        PrecoderFile,
    )


def _over_blocks(channels: ComplexArray, precoders: ComplexArray, demand: Demand) -> FloatArray:
    """SINR of each user as powers summed over the blocks have it, shape (user,)."""
    users = np.arange(len(demand.sinr))
    heard = np.einsum("kuna,ksna->kusn", channels.conj(), precoders)
    together = demand.mode is Cooperation.COHERENT
    power = np.abs(heard.sum(axis=3)) ** 2 if together else (np.abs(heard) ** 2).sum(axis=3)
    wanted = power[:, users, users].sum(axis=0)
    return np.asarray(wanted / (power.sum(axis=(0, 2)) - wanted + len(channels) * demand.noise))


def _noise_w(said: SignallingFile) -> float:
    return float(_BOLTZMANN_290K * said.radio.bandwidth_hz * 10 ** (said.radio.noise_figure_db / 10))


def _channels(said: SignallingFile, geometry: Geometry, offset_hz: float = 0.0) -> ComplexArray:
    """Free space from every antenna of every station to every user so far from the carrier, conjugate: what precoders
    w bring is hᴴ·w.

    Each antenna's own distance counts: nulls 20 dB deep are moved by what a plane wave leaves out.
    """
    wavelength = SPEED_OF_LIGHT_MPS / geometry.carrier_hz
    left = np.stack([-np.sin(geometry.headings_rad), np.cos(geometry.headings_rad)], axis=1)
    antennas = geometry.stations_m[:, None] + 0.5 * wavelength * np.arange(geometry.antennas)[:, None] * left[:, None]
    users = np.array([user.position_m for user in said.user], dtype=float).reshape(-1, 2)
    distance = np.linalg.norm(users[:, None, None] - antennas, axis=-1)
    turns = distance / wavelength * (1 + offset_hz / geometry.carrier_hz)
    return np.asarray(wavelength / (4 * pi * distance) * np.exp(2j * pi * turns))


def _echo_snr(said: SignallingFile, geometry: Geometry) -> FloatArray:
    """SNR of each echo at one antenna, integrated, for a watt of illumination: the bistatic radar equation."""
    wavelength = SPEED_OF_LIGHT_MPS / geometry.carrier_hz
    distance = np.linalg.norm(geometry.target_m - geometry.stations_m, axis=1)
    gain = wavelength**2 * said.target.rcs_m2 / ((4 * pi) ** 3 * np.outer(distance, distance) ** 2)
    return np.asarray(gain * said.radio.bandwidth_hz * said.radio.interval_s / _noise_w(said))
