"""Every call that the driver makes of the fake library exists in Debian's real one, with arguments that it takes.

The calls are recorded while the driver works the fake through everything it can meet. The real library is asked in its
own interpreter, since it wants numpy 1.
"""

from __future__ import annotations

import json
import re
import subprocess
from enum import Enum
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim_backend.fake_uhd import Library
from sim_backend.fake_uhd.device import Recorded
from testbed.radio import usrp as driver
from testbed.radio import usrp_clock as clock
from testbed.radio.base import Settings
from testbed.radio.usrp import UsrpRadio
from testbed.scenario import Usrp

INTERPRETER = Path("/usr/bin/python3")
Call = tuple[str, str, str, tuple[str, ...]]


class Silence:
    """An air in which there is nothing to hear, and in which a buffer is lost."""

    rate_hz, carrier_hz, antennas = Fraction(10_000_000), Fraction(2_400_000_000), 2

    def present(self) -> tuple[int, int]:
        return 10_000_000, 9_000_000

    def transmit(self, samples: np.ndarray, tick: int) -> None:
        pass

    def receive(self, samples: int, tick: int) -> Recorded:
        runs = ((0, 100, tick), (100, samples - 110, tick + 110))
        return Recorded(np.zeros((2, samples - 10, 2), np.int16), 2048, runs)


def unwrapped(value: Any) -> Any:
    if isinstance(value, list):
        return [unwrapped(one) for one in value]
    return object.__getattribute__(value, "_target") if isinstance(value, Spy) else value


def kind_of(value: Any) -> str:
    value = unwrapped(value)
    return type(value).__name__


class Spy:
    """Stands before an object of the fake, and writes down what is asked of it."""

    def __init__(self, target: Any, calls: set[Call], owner: str = "") -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_calls", calls)
        object.__setattr__(self, "_owner", owner or type(target).__name__)

    def __getattr__(self, name: str) -> Any:
        target, calls, owner = (object.__getattribute__(self, key) for key in ("_target", "_calls", "_owner"))
        value = getattr(target, name)
        if isinstance(value, SimpleNamespace):
            return Spy(value, calls, owner="module")
        if isinstance(value, type) and issubclass(value, Enum):
            for member in value:
                # Those that the driver names it gets from here; which, a class of its own must tell.
                calls.add(("get", value.__name__, member.name, ()))
            return value
        if not callable(value):
            calls.add(("get", owner, name, ()))
            return self._wrapped(value)

        def called(*arguments: Any) -> Any:
            given = tuple(kind_of(one) for one in arguments)
            if owner == "module":
                calls.add(("new", name, "", given))
            elif owner == "Library":
                calls.add(("function", "", name, given))
            else:
                calls.add(("call", owner, name, given))
            return self._wrapped(value(*(unwrapped(one) for one in arguments)))

        return called

    def __setattr__(self, name: str, value: Any) -> None:
        calls, owner = (object.__getattribute__(self, key) for key in ("_calls", "_owner"))
        calls.add(("set", owner, name, (kind_of(value),)))
        setattr(object.__getattribute__(self, "_target"), name, unwrapped(value))

    def _wrapped(self, value: Any) -> Any:
        calls = object.__getattribute__(self, "_calls")
        if isinstance(value, list):
            return [self._wrapped(one) for one in value]
        ours = type(value).__module__.startswith("sim_backend.fake_uhd") and not isinstance(value, Enum)
        return Spy(value, calls) if ours else value


@cache
def recorded_calls() -> frozenset[Call]:
    """What the driver asks of the library over everything it can meet."""
    calls: set[Call] = set()
    asked = Settings(Silence.carrier_hz, Silence.rate_hz, 2, 0.0, start_lead_s=0.05)
    for arguments, options in (
        ("", {}),
        ("late=1,underflow=1,loss=drop", {"rx_subdev": "A:0 B:0", "tx_subdev": "A:0", "lo_offset_hz": 1e6}),
        ("ref=absent,pps=absent", {"clock_source": "external", "time_source": "external", "require_lock": False}),
        ("late_tx=1", {"clock_source": "gpsdo", "time_source": "gpsdo", "bandwidth_hz": 8e6}),
        ("", {"rx_antenna": "RX2", "tx_antenna": "TX/RX", "clock_source": "external", "time_source": "external"}),
    ):
        made = Usrp(args=f"type=simulated,product=X310,{arguments}", **options)
        library = Library(made.args, Silence)
        radio = UsrpRadio("north", made, library=Spy(library, calls), wait=library.sleep)
        radio.configure(asked)
        _ = radio.capabilities
        for length in (100, 5000):
            radio.transmit(np.full(length, 0.5, np.complex64), offset_samples=3)
            radio.receive(10_000)
        radio.close()
    return frozenset(calls)


def answer(calls: list[Call]) -> dict[str, Any]:
    """What the real library says to these calls."""
    if not INTERPRETER.exists():
        pytest.skip(f"there is no {INTERPRETER} that could have uhd")
    there = subprocess.run([INTERPRETER, "-c", "import uhd"], capture_output=True, check=False)
    if there.returncode:
        pytest.skip(f"{INTERPRETER} has no uhd: sudo apt-get install --no-install-recommends python3-uhd")
    checker = Path(__file__).with_name("uhd_checker.py")
    said = subprocess.run(
        [INTERPRETER, checker], input=json.dumps(calls), capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(said.stdout)


def test_the_recording_is_of_the_whole_driver() -> None:
    # Whatever the driver's text names of the library was met while it was recorded.
    met = {part for _, owner, name, _ in recorded_calls() for part in (owner, name)}
    for module in (driver, clock):
        text = Path(str(module.__file__)).read_text()
        named = re.findall(
            r"(?<!node\.)\b(?:usrp|device|spec|told|rx|tx|metadata|command)\.([a-z]\w+)\b(?=\(| = |\.)", text
        )
        named += re.findall(r"library\.(?:types|usrp)\.([A-Z]\w+)", text)
        assert set(named) - met == set()
        assert named


def test_every_call_is_one_the_real_library_takes() -> None:
    told = answer(sorted(recorded_calls()))
    assert told["complaints"] == []
    # The traps that the fake copies are still there.
    assert told["traps"] == {"sensor is true": True, "sensor says": False, "equal times are equal": False}


def test_a_wrong_call_would_be_seen() -> None:
    wrong: list[Call] = [
        ("call", "MultiUSRP", "set_rx_gian", ("float", "int")),
        ("call", "MultiUSRP", "set_rx_gain", ("str", "int", "int")),
        ("call", "MultiUSRP", "set_command_time", ("float",)),
        ("call", "RXStreamer", "recv", ("ndarray",)),
        ("new", "TimeSpec", "", ("float", "float")),
        ("set", "RXMetadata", "error_code", ("int",)),
        ("set", "StreamCMD", "time_spec", ("float",)),
        ("get", "RXMetadataErrorCode", "too_late", ()),
    ]
    assert len(answer(wrong)["complaints"]) == len(wrong)
