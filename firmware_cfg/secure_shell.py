"""The U-Boot environment of a Pluto, read and written over the system's `ssh`.

`fw_printenv` and `fw_setenv` on the device do the work. A Pluto makes new host keys at each boot and keeps none, so
that none can be remembered: whoever is on its network can pose as it. Use it on a USB cable or a network of your own.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping

from firmware_cfg.boards import Identity
from firmware_cfg.errors import FirmwareError

__all__ = ["SecureShell"]

_OPTIONS = (
    "-o", "ConnectTimeout=5",
    "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null",
    "-o", "HostKeyAlgorithms=+ssh-rsa",  # all that older firmware offers
    "-o", "LogLevel=ERROR",
)  # fmt: skip
_TIMEOUT_S = 120.0
"""Somebody may have to type a password."""
_READ = (
    'echo "[model]"; tr -d "\\000" < /proc/device-tree/model; echo; '
    'echo "[versions]"; cat /opt/VERSIONS; '
    'echo "[environment]"; fw_printenv'
)


class SecureShell:
    """Device that `ssh` reaches at ``target``, as USER@HOST."""

    def __init__(self, target: str) -> None:
        self.target = target

    def read(self) -> tuple[Identity, dict[str, str]]:
        """What the device is, and its U-Boot environment.

        Raises
        ------
        FirmwareError
            If it cannot be reached, or is no device with such an environment.
        """
        sections: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in self._run(_READ).splitlines():
            if line in ("[model]", "[versions]", "[environment]"):
                lines = sections.setdefault(line[1:-1], [])
            elif line.strip():
                lines.append(line.rstrip("\r"))
        environment = dict(line.split("=", 1) for line in sections.get("environment", ()) if "=" in line)
        if not environment:
            raise FirmwareError(f"{self.target}: has no U-Boot environment: it is no Pluto")
        versions = dict(line.split(None, 1) for line in sections.get("versions", ()) if " " in line)
        model = " ".join(sections.get("model", ())) or "nothing"
        return Identity(model.strip(), versions.get("device-fw", "").strip() or "nothing"), environment

    def write(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """Environment read back after ``changes``, where None removes a variable; they count from the next boot.

        Raises
        ------
        FirmwareError
            If the device cannot be reached or refuses.
        """
        commands = ["set -e", *(self.command(name, value) for name, value in changes.items()), "fw_printenv"]
        text = self._run("; ".join(commands))
        return dict(line.rstrip("\r").split("=", 1) for line in text.splitlines() if "=" in line)

    def reboot(self) -> None:
        """Start the device anew; returns before it is up."""
        # The connection breaks while the command runs: it is put off by a second so that ssh ends well.
        self._run("(sleep 1; device_reboot reset || pluto_reboot reset || reboot) >/dev/null 2>&1 &")

    @staticmethod
    def command(name: str, value: str | None) -> str:
        """Command on the device that sets, or removes, one variable."""
        return f"fw_setenv {shlex.quote(name)}" + ("" if value is None else f" {shlex.quote(value)}")

    def _run(self, script: str) -> str:
        if shutil.which("ssh") is None:
            raise FirmwareError("there is no ssh on this machine: sudo apt-get install openssh-client")
        try:
            done = subprocess.run(
                ["ssh", *_OPTIONS, self.target, script],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FirmwareError(f"{self.target}: does not answer over ssh within {_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            said = " ".join(done.stderr.split())[-200:] or f"exit code {done.returncode}"
            raise FirmwareError(f"{self.target}: over ssh: {said} (a stock Pluto's user is root, password analog)")
        return done.stdout
