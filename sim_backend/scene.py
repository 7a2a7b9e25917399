"""Geometry: antennas, reflectors, and the paths between them with their exact delays and levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim_backend.randomness import generator
from sim_backend.specification import NodeSpec, ReflectorSpec, SceneSpec

__all__ = ["LEAKAGE", "LINE_OF_SIGHT", "SPEED_OF_LIGHT_MPS", "Path", "Scene"]

FloatArray = NDArray[np.float64]

SPEED_OF_LIGHT_MPS = 299_792_458.0
LINE_OF_SIGHT = "line of sight"
LEAKAGE = "leakage"


@dataclass(frozen=True)
class Path:
    """One way from a transmit to a receive antenna."""

    name: str
    """Reflector's name, ``line of sight`` or ``leakage``."""
    delay_s: Callable[[FloatArray], FloatArray]
    """Delay of what is heard at a true time (seconds since the world's start), antenna to antenna."""
    amplitude: Callable[[float], complex]
    """Field amplitude at a true time, before any scaling to a stated SNR."""
    moving: bool


def _vector(values: tuple[float, ...]) -> FloatArray:
    if len(values) not in (2, 3) or not np.all(np.isfinite(values)):
        raise ValueError(f"positions have two or three finite coordinates, got {values}")
    return np.array([*values, 0.0][:3], dtype=float)


class _Placed:
    """A node's antennas in the world."""

    def __init__(self, node: NodeSpec) -> None:
        if node.port not in ("shared", "separate"):
            raise ValueError(f"port of '{node.name}' is '{node.port}': 'shared' or 'separate'")
        for what, count in (("antennas", node.antennas), ("transmit antennas", node.transmit_antennas)):
            if not 1 <= count <= 4:
                raise ValueError(f"'{node.name}' has {count} {what}: one to four")
        angle = np.deg2rad(node.heading_deg)
        forward = np.array([np.cos(angle), np.sin(angle), 0.0])
        left = np.array([-np.sin(angle), np.cos(angle), 0.0])
        frame = np.stack([forward, left, np.array([0.0, 0.0, 1.0])])
        origin = _vector(node.position_m)
        separate = node.port == "separate"
        if not separate and (any(node.tx_offset_m) or any(node.rx_offset_m)):
            raise ValueError(f"'{node.name}' shares one port, so that antenna offsets must be zero")
        first = origin + _vector(node.rx_offset_m) @ frame if separate else origin
        self.receive = [first + index * node.antenna_spacing_m * left for index in range(node.antennas)]
        sent_from = origin + _vector(node.tx_offset_m) @ frame if separate else origin
        self.transmit = [sent_from + index * node.antenna_spacing_m * left for index in range(node.transmit_antennas)]


class Scene:
    """Paths between all nodes, reciprocal by construction.

    Angles of arrival come from each antenna's own geometry, so that near fields are as they are. The reflection
    phase of a reflector is random per pair of nodes, the same in both directions.
    """

    def __init__(self, nodes: tuple[NodeSpec, ...], spec: SceneSpec, seed: int) -> None:
        names = [node.name for node in nodes]
        if len(set(names)) != len(names):
            raise ValueError(f"nodes need different names, got {names}")
        self.spec = spec
        self._seed = seed
        self._nodes = {node.name: node for node in nodes}
        self._placed = {node.name: _Placed(node) for node in nodes}
        self._names = [reflector.name or f"reflector {index}" for index, reflector in enumerate(spec.reflectors)]
        if len(set(self._names)) != len(self._names):
            raise ValueError(f"reflectors need different names, got {self._names}")

    def paths(self, receiver: str, transmitter: str, antenna: int, transmit_antenna: int = 0) -> list[Path]:
        """Paths from a transmit antenna of ``transmitter`` to one receive antenna of another node, or its own
        echoes if the two are the same node."""
        origin = self._placed[transmitter].transmit[transmit_antenna]
        target = self._placed[receiver].receive[antenna]
        wavelength = SPEED_OF_LIGHT_MPS / float(self._nodes[transmitter].carrier_hz)
        paths = []
        if self.spec.line_of_sight and receiver != transmitter:
            distance = float(np.linalg.norm(target - origin))
            if distance < wavelength / 2:
                raise ValueError(f"'{receiver}' and '{transmitter}' stand {distance:g} m apart, in one near field")
            paths.append(_fixed(LINE_OF_SIGHT, distance, complex(wavelength / (4 * np.pi * distance))))
        for name, reflector in zip(self._names, self.spec.reflectors, strict=True):
            pair = sorted((receiver, transmitter))
            turn = generator(self._seed, "reflection", name, *pair).uniform()
            paths.append(_scattered(name, reflector, origin, target, wavelength, np.exp(2j * np.pi * turn)))
        return paths

    def own_leakage(self, node: str, antenna: int, delay_s: float, transmit_antenna: int = 0) -> Path:
        """Path from a node's transmitter straight into its own receiver, of unit amplitude."""
        placed = self._placed[node]
        # The stated delay is that between the first ones; separate ports stand apart as they do.
        sent_from = placed.transmit[transmit_antenna] - placed.transmit[0]
        extra = float(np.linalg.norm(placed.receive[antenna] - placed.receive[0] - sent_from))
        pair = (antenna, transmit_antenna) if transmit_antenna else (antenna,)
        turn = generator(self._seed, "leakage", node, *pair).uniform()
        return _fixed(LEAKAGE, delay_s * SPEED_OF_LIGHT_MPS + extra, complex(np.exp(2j * np.pi * turn)))

    def power(self, receiver: str, transmitter: str, time_s: float = 0.0) -> float:
        """Power gain of a link, total over its paths, at the receiver's first antenna."""
        return float(sum(abs(path.amplitude(time_s)) ** 2 for path in self.paths(receiver, transmitter, 0)))


def _fixed(name: str, length_m: float, amplitude: complex) -> Path:
    delay = length_m / SPEED_OF_LIGHT_MPS
    return Path(name, lambda time: np.full(np.shape(time), delay), lambda time: amplitude, moving=False)


def _scattered(
    name: str, reflector: ReflectorSpec, origin: FloatArray, target: FloatArray, wavelength: float, phase: complex
) -> Path:
    """Path over a reflector: bistatic radar equation, delay to the place where it was when the wave met it."""
    start, velocity = _vector(reflector.position_m), _vector(reflector.velocity_mps)
    if reflector.rcs_m2 <= 0:
        raise ValueError(f"'{name}' has a radar cross-section of {reflector.rcs_m2} m²: must be positive")
    moving = bool(np.any(velocity))

    def legs(time: FloatArray) -> tuple[FloatArray, FloatArray]:
        moment = np.asarray(time, dtype=float)
        back = np.zeros_like(moment)
        for _ in range(3 if moving else 1):
            place = start + velocity * (moment - back / SPEED_OF_LIGHT_MPS)[..., None]
            back = np.linalg.norm(place - target, axis=-1)
        return np.linalg.norm(place - origin, axis=-1), back

    def delay(time: FloatArray) -> FloatArray:
        if not moving:
            out, back = legs(np.zeros(1))
            return np.full(np.shape(time), float((out + back)[0]) / SPEED_OF_LIGHT_MPS)
        out, back = legs(time)
        return np.asarray((out + back) / SPEED_OF_LIGHT_MPS)

    def amplitude(time: float) -> complex:
        out, back = legs(np.array([time]))
        spread = np.sqrt((4 * np.pi) ** 3) * float(out[0]) * float(back[0])
        return complex(wavelength * np.sqrt(reflector.rcs_m2) / spread * phase)

    return Path(name, delay, amplitude, moving)
