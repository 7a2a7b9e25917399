"""A Pluto that is not there: an `ssh` on the PATH, and behind it a shell with a U-Boot environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_PROGRAMS = {
    "ssh": """#!/bin/sh
for last in "$@"; do before=$script; script=$last; done
echo "$before" >> {root}/targets
if [ -s {root}/refusal ]; then cat {root}/refusal >&2; exit 255; fi
script=$(printf '%s' "$script" | sed 's#/proc/device-tree/model#{root}/model#; s#/opt/VERSIONS#{root}/versions#')
PATH={root}/device:$PATH exec sh -c "$script"
""",
    "device/fw_printenv": """#!/bin/sh
cd {root}/environment && for name in *; do [ -e "$name" ] && echo "$name=$(cat "$name")"; done
exit 0
""",
    "device/fw_setenv": """#!/bin/sh
if [ "$1" = "$(cat {root}/stuck)" ]; then exit 0; fi
name=$1; shift
if [ $# -eq 0 ]; then rm -f {root}/environment/"$name"; else printf '%s' "$*" > {root}/environment/"$name"; fi
""",
    "device/device_reboot": """#!/bin/sh
echo "$1" >> {root}/boots
""",
}


@dataclass(frozen=True)
class FakeDevice:
    """What stands behind the `ssh`."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted((self.root / "environment").iterdir())}

    @property
    def targets(self) -> set[str]:
        return set((self.root / "targets").read_text().split())


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeDevice]:
    """Function that puts an `ssh` in front of the system's."""

    def install(
        environment: dict[str, str] | None = None,
        *,
        model: str = "Analog Devices PlutoSDR Rev.C (Z7010/AD9363)",
        firmware: str = "v0.39",
        refuses: str = "",
        stuck: str = "",
    ) -> FakeDevice:
        root = tmp_path / "pluto"
        (root / "environment").mkdir(parents=True)
        (root / "device").mkdir()
        stock = {"baudrate": "115200", "mode": "1r1t", "refclk_source": "internal"}
        for name, value in (stock if environment is None else environment).items():
            (root / "environment" / name).write_text(value)
        (root / "model").write_text(model + "\0")
        (root / "versions").write_text(f"device-fw {firmware}\nhdl abc\nlinux v5\n")
        (root / "refusal").write_text(refuses)
        (root / "stuck").write_text(stuck)
        for name, text in _PROGRAMS.items():
            program = root / name
            program.write_text(text.replace("{root}", str(root)))
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{root}{os.pathsep}{os.environ['PATH']}")
        return FakeDevice(root)

    return install
