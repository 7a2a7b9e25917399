"""How times grow: the map with antennas, symbols and subcarriers, a whole round with nodes and targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from testbed.bench.rows import BenchRow
from testbed.bench.speed import Stage, exponent_row, measure
from testbed.bench.speed_frame import Frame
from testbed.scenario import Reflector, Scenario, load

__all__ = ["rows"]

_SCENARIO = Path(__file__).parents[2] / "scenarios" / "two-nodes.toml"
_FRAMES = {
    "antennas": [(size, Frame(antennas=size)) for size in (1, 2, 4, 8)],
    "symbols": [(size, Frame(symbols=size)) for size in (64, 128, 256, 512)],
    "subcarriers": [(size, Frame(size=size, prefix=size // 8)) for size in (256, 512, 1024, 2048, 4096)],
}
_PLACES_M = ((0.0, 0.0), (30.0, 4.0), (14.0, -25.0), (-18.0, 12.0))


def rows(rounds: int, progress: Callable[[int, str], None]) -> list[BenchRow]:
    """Times over what grows, and the power law fitted to them."""
    found = []
    for number, (axis, frames) in enumerate(_FRAMES.items()):
        progress(number, axis)
        for name in ("samples to map", "bare transforms"):
            seconds = []
            for _, frame in frames:
                way = frame.power if name == "samples to map" else frame.bare_frame
                seconds.append(float(measure(Stage(name, way, {}), rounds)["ours"].min()))
            found += _curve(name, axis, [size for size, _ in frames], seconds)
    progress(len(_FRAMES), "nodes")
    nodes = [2, 3, 4]
    found += _curve("one round", "nodes", nodes, [_round_s(_scenario(nodes=count)) for count in nodes])
    progress(len(_FRAMES) + 1, "targets")
    targets = [1, 2, 4]
    found += _curve("one round", "targets", targets, [_round_s(_scenario(targets=count)) for count in targets])
    return found


def _curve(name: str, axis: str, sizes: Sequence[int], seconds: Sequence[float]) -> list[BenchRow]:
    points = [
        BenchRow(
            scenario="growth", method=name, parameters={"over": axis, "size": size}, metric="time", unit="s",
            value=taken,
        )
        for size, taken in zip(sizes, seconds, strict=True)
    ]  # fmt: skip
    return [*points, exponent_row(name, axis, sizes, seconds)]


def _scenario(nodes: int = 2, targets: int = 1) -> Scenario:
    """The demo with more nodes about it, or more movers, three frames a slot."""
    scenario = load(_SCENARIO)
    replace = msgspec.structs.replace
    all_nodes = tuple(
        replace(scenario.node[number % 2], name=f"n{number}", position_m=_PLACES_M[number]) for number in range(nodes)
    )
    still = tuple(one for one in scenario.scene.reflector if not any(one.velocity_mps))
    movers = tuple(
        Reflector(
            name=f"mover{number}", position_m=(19.0 - 9.0 * number, 41.6 + 3.0 * number),
            velocity_mps=(-1.0 + 0.7 * number, -6.4 + 2.9 * number), rcs_m2=2.0,
        )
        for number in range(targets)
    )  # fmt: skip
    return replace(
        scenario,
        experiment=replace(scenario.experiment, rounds=1, methods=("reciprocity-mle",)),
        round=replace(scenario.round, frames_per_slot=5),
        node=all_nodes,
        scene=replace(scenario.scene, reflector=(*still, *movers)),
    )


def _round_s(scenario: Scenario) -> float:
    """Processor time that the pipeline takes for a round, the second time: kernels are loaded by then."""
    from testbed.bench.laboratory import captures
    from testbed.pipeline import Pipeline

    (recorded,) = captures(scenario)
    taken = []
    for _ in range(2):
        pipeline = Pipeline(scenario)
        begin = time.thread_time()
        pipeline.process(0, recorded)
        taken.append(time.thread_time() - begin)
    return min(taken)
