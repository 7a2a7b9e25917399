"""How warm a USRP is, where it tells."""

from __future__ import annotations

from typing import Any

__all__ = ["temperatures"]

_KEYS = (("temperature_c", "get_rx_sensor_names", "get_rx_sensor"),
         ("board_temperature_c", "get_mboard_sensor_names", "get_mboard_sensor"))  # fmt: skip


def temperatures(usrp: Any) -> dict[str, float]:
    """Degrees Celsius: of the first receive front end (``temperature_c``) and of the first board, those that it has.

    Where only the board tells, that stands for the front end.
    """
    found = {}
    for key, names, sensor in _KEYS:
        if "temp" in list(getattr(usrp, names)(0)):
            found[key] = round(float(getattr(usrp, sensor)("temp", 0).to_real()), 1)
    if "board_temperature_c" in found:
        found.setdefault("temperature_c", found["board_temperature_c"])
    return found
