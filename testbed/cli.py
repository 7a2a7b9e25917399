"""The command `isac`: lists what there is at once, and loads a command only when it is run."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from testbed.errors import RunError, UserError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "plan": ("testbed.commands.plan", "Predict what an experiment can reach, before it is run."),
    "signalling": ("testbed.commands.signalling", "Design precoders that sense and serve users at once."),
    "network": ("testbed.commands.network", "Give every metric of a random place in a network of stations."),
    "run": ("testbed.commands.run", "Run an experiment: record, synchronize, sense, report."),
    "replay": ("testbed.commands.replay", "Process a recording again."),
    "report": ("testbed.commands.report", "Write a run's report again."),
    "compare": ("testbed.commands.compare", "Set runs side by side."),
    "sweep": ("testbed.commands.sweep", "Run an experiment at many points of its parameters."),
    "verify": ("testbed.commands.verify", "Hold finished runs against what must be so, with no truth known."),
    "scenario": ("testbed.commands.scenario", "Check, show, explain or begin an experiment file."),
    "frame": ("testbed.commands.frame", "Write the frame that a node transmits."),
    "export": ("testbed.commands.export", "Write a run's arrays for numpy or MATLAB."),
    "csi": ("testbed.commands.csi", "Read a capture of WiFi channel state information."),
    "iq": ("testbed.commands.iq", "Read raw IQ of WiFi or LTE."),
    "node": ("testbed.commands.node", "Start a node's agent on this machine."),
    "keys": ("testbed.commands.keys", "Make the keys by which nodes know each other."),
    "calibrate": ("testbed.commands.calibrate", "Measure radios' constants; find the gains at which all fits."),
    "doctor": ("testbed.commands.doctor", "Say what is missing or wrong here, and what mends it."),
    "firmware": ("testbed.commands.firmware", "Plan and apply a radio's profile; design its FIR filters."),
    "sim": ("testbed.commands.sim", "Serve simulated devices on the network."),
    "bench": ("testbed.commands.bench", "Measure accuracy against the bounds, and speed."),
}
"""Where each command is, and its line in the help."""


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="isac-testbed", message="%(version)s")
def cli() -> None:
    """Over-the-air synchronization and bistatic sensing with software-defined radios that share no clock.

    Exit codes: 0 done; 1 the run failed or lost a node for good; 2 the input was wrong; 130 interrupted.
    """


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the command line ``arguments``; errors are one line on the standard error."""
    # Around small linear algebra two threads are slower than one, and far slower on a busy machine; numpy reads this
    # when it is first imported, which no command has done yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        result: Any = cli.main(arguments, prog_name="isac", standalone_mode=False)
    except click.ClickException as error:
        _explain(error)
        return error.exit_code
    except (UserError, RunError) as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does: nothing is wrong, and nothing can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        _complain(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return 1 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else 2
    return result if isinstance(result, int) else 0


def _explain(error: click.ClickException) -> None:
    """One line on wrong words of a command; the help where there were none."""
    text = error.format_message()
    context = getattr(error, "ctx", None)
    if context is None or "\n" in text:
        error.show()
        return
    _complain(f"{text[0].lower()}{text[1:].removesuffix('.')}; see `{context.command_path} --help`")


def _complain(text: str) -> None:
    print(f"isac: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
