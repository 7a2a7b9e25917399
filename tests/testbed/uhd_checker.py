"""Run by an interpreter that has the real uhd: what of the calls on standard input it would refuse, as JSON.

Each call is [kind, class, member, argument types]; see tests/testbed/test_uhd_conformance.py, which records them.
"""

from __future__ import annotations

import json
import re
import sys

import uhd

# As the signatures name what was not yet known to the binding when they were written.
_FORWARD = {
    "uhd::stream_args_t": "StreamArgs",
    "uhd::usrp::subdev_spec_t": "SubdevSpec",
    "uhd::device_addr_t": "str",
}
_NUMBERS = {"float": ("float", "int"), "int": ("int", "bool"), "bool": ("bool",), "str": ("str",)}
_SAMPLES = {"float": 1.5, "int": 2, "bool": True, "str": "", "list": [0]}


def real_class(name: str) -> type | None:
    """The real library's class of that name."""
    return getattr(uhd.types, name, None) or getattr(uhd.usrp, name, None)


def overloads(member: object) -> list[list[tuple[str, str, bool]]]:
    """Parameters of each overload, (name, type, has a default), without self."""
    found = []
    for line in (member.__doc__ or "").splitlines():
        match = re.match(r"^(?:\d+\. )?\w+\((.*)\)(?: -> .*)?$", line.strip())
        if match is None or match.group(1).startswith("*args"):
            continue
        parameters = []
        for part in filter(None, match.group(1).split(", ")):
            name, _, kind = part.partition(": ")
            kind, _, default = kind.partition(" = ")
            if name != "self":
                parameters.append((name, kind, bool(default)))
        found.append(parameters)
    return found


def takes(kind: str, given: str) -> bool:
    """Whether a parameter of the real one's type takes an argument of ours."""
    if kind == "object":
        return given == "ndarray"
    if kind in _NUMBERS:
        return given in _NUMBERS[kind]
    if kind in _FORWARD:
        return given == _FORWARD[kind]
    real = real_class(given)
    return real is not None and kind.rsplit(".", 1)[-1] == real.__name__


def refused(member: object, given: list[str]) -> str:
    """Why no overload takes these arguments; empty if one does."""
    there = overloads(member)
    for parameters in there:
        needed = sum(not optional for _, _, optional in parameters)
        if needed <= len(given) <= len(parameters) and all(
            takes(kind, one) for (_, kind, _), one in zip(parameters, given, strict=False)
        ):
            return ""
    return f"takes {there}, not {given}"


def checked(kind: str, owner: str, name: str, given: list[str]) -> str:
    """What is wrong with one call; empty if nothing is."""
    if kind == "function":
        member = getattr(uhd, name, None)
        return "is not there" if member is None else refused(member, given)
    real = real_class(owner)
    if real is None:
        return "is not there"
    if kind == "new":
        if real.__init__ is object.__init__ or owner == "MultiUSRP":
            return "" if given == ["str"] else f"is not made from {given}"
        return refused(real.__init__, given)
    if not hasattr(real, name):
        return "is not there"
    if kind == "call":
        return refused(getattr(real, name), given)
    if kind == "set":
        made = real(uhd.types.StreamMode.num_done) if owner == "StreamCMD" else None
        made = real("sc16", "sc16") if owner == "StreamArgs" else made or real()
        value = _SAMPLES[given[0]] if given[0] in _SAMPLES else real_class(given[0])(1.5)
        try:
            setattr(made, name, value)
        except (AttributeError, TypeError) as error:
            return f"cannot be set: {error}"
    return ""


def main() -> None:
    """Read calls, write complaints."""
    complaints = []
    for kind, owner, name, given in json.load(sys.stdin):
        wrong = checked(kind, owner, name, given)
        if wrong:
            complaints.append(f"{owner}.{name} {wrong}")
    sensor = uhd.types.SensorValue("Ref", False, "locked", "unlocked")
    one, other = uhd.types.TimeSpec(1.5), uhd.types.TimeSpec(1.5)
    traps = {"sensor is true": bool(sensor), "sensor says": sensor.to_bool(), "equal times are equal": one == other}
    json.dump({"complaints": complaints, "traps": traps}, sys.stdout)


if __name__ == "__main__":
    main()
