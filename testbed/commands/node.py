"""`isac node`: the agent beside a radio."""

from __future__ import annotations

import sys
from pathlib import Path

import click

__all__ = ["command"]


@click.command("node")
@click.option("--name", required=True, help="The node's name in the experiment file.")
@click.option("--coordinator", required=True, metavar="URI", help="Where `isac run --listen` waits: tcp://HOST:PORT.")
@click.option(
    "--keys",
    type=click.Path(file_okay=False, path_type=Path),
    help="This node's folder of keys, as `isac keys` makes it; needed beyond this machine.",
)
@click.option("--with-parent", is_flag=True, hidden=True, help="End when the standard input does.")
def command(name: str, coordinator: str, keys: Path | None, with_parent: bool) -> None:
    """Start the agent of one node, which waits for the coordinator, serves one run, and ends."""
    from testbed.node import Agent
    from testbed.scenario_domains import refuse_name

    refuse_name("--name", name)
    agent = Agent(name, coordinator, keys=keys, parent=sys.stdin.fileno() if with_parent else None)
    agent.serve()
