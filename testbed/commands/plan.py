"""`isac plan`: what an experiment can reach, before it is run."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import json_option, refuse_file

__all__ = ["command"]


@click.command("plan")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), help="PNG to write; NAME-plan.png if not given.")
@json_option()
def command(scenario: Path, picture: Path | None, json_file: Path | None) -> None:
    """Predict what the experiment in the file SCENARIO can reach: SNR and levels of each link, TO and CFO by each
    method, position errors over a map, and what each change would buy.
    """
    from testbed.environment import versions
    from testbed.errors import UserError
    from testbed.planning.figures import plan_rows, print_plan
    from testbed.planning.picture import draw_plan
    from testbed.planning.plan import make_plan
    from testbed.report.comparison import write_figures
    from testbed.scenario import load

    experiment = load(scenario)
    path = picture if picture is not None else Path(f"{experiment.experiment.name}-plan.png")
    if path.suffix != ".png":
        raise UserError(f"--picture is {path}, but the picture is a PNG: give a name that ends in .png")
    refuse_file("--picture", path)
    plan = make_plan(experiment)
    print_plan(plan)
    draw_plan(plan, path)
    if json_file is not None:
        write_figures(json_file, {"environment": versions(), "rows": plan_rows(plan)})
    click.echo(f"picture: {path}")
