"""Rounds of simulated radios inside this process: the agents' own radio workers, without agents."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

from testbed.capture import Capture
from testbed.errors import RunError
from testbed.protocol import Failed
from testbed.radio.base import Applied
from testbed.radio.simulated import EtherServer
from testbed.radio_worker import RadioWorker, Recorded
from testbed.scenario import Scenario, dumps
from testbed.transmit_correction import Correction

__all__ = ["captures"]


def captures(
    scenario: Scenario, feedback: Callable[[int], Mapping[str, Correction]] | None = None
) -> Iterator[dict[str, Capture]]:
    """Captures by node of each round of a simulated experiment, as the coordinator would hand them on.

    ``feedback`` says what nodes take off what they send together in a round, once those before it are processed.

    Raises
    ------
    RunError
        If a radio refuses.
    """
    text = dumps(scenario)
    with ExitStack() as stack:
        server = EtherServer(scenario)
        stack.callback(server.close)
        workers: list[tuple[str, RadioWorker, queue.SimpleQueue[Applied | Failed | Recorded]]] = []
        for node in scenario.node:
            answers: queue.SimpleQueue[Applied | Failed | Recorded] = queue.SimpleQueue()
            worker = RadioWorker(text, node.name, ether=f"127.0.0.1:{server.port}", answer=answers.put)
            stack.callback(worker.close)
            workers.append((node.name, worker, answers))
        for name, _, answers in workers:
            _checked(name, answers.get())
        for index in range(scenario.experiment.rounds):
            corrections = {} if feedback is None else feedback(index)
            for name, worker, _ in workers:
                worker.record(index, corrections.get(name))
            yield {name: _capture(name, _checked(name, answers.get())) for name, _, answers in workers}


def _checked(name: str, answer: Applied | Failed | Recorded) -> Applied | Recorded:
    if isinstance(answer, Failed):
        raise RunError(f"{name}: {answer.text}")
    return answer


def _capture(name: str, answer: Applied | Recorded) -> Capture:
    if not isinstance(answer, Recorded):
        raise RunError(f"{name}: its radio answered out of turn")
    applied = answer.applied
    return answer.reception.capture(name, answer.round, applied, answer.departures, applied.details)
