"""The run judged: what stands first on the page and what the command prints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import comb

from testbed.report.style import metres, quantity, small_share
from testbed.report.summary import MethodFigures, PayloadFigures, RunSummary, Spread, TargetFigures

__all__ = ["Card", "State", "Verdict", "error_rate_text", "judge"]


class State(StrEnum):
    """How a figure stands to what was to be expected of it."""

    GOOD = "good"
    LOOK = "look"
    BAD = "bad"
    NONE = "none"


@dataclass(frozen=True)
class Card:
    """One figure of the verdict."""

    title: str
    state: State
    value: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """The run in one sentence, a word, and six figures."""

    state: State
    word: str
    sentence: str
    cards: tuple[Card, ...]


def error_rate_text(payload: PayloadFigures) -> str:
    """Bit error rate, or the bound that no error among so many bits gives: three over their number, with 95 %."""
    if payload.bit_errors is None or not payload.bits:
        return "–"
    if payload.bit_errors == 0:
        return f"0 (< {small_share(3 / payload.bits)})"
    return small_share(payload.bit_errors / payload.bits)


def _offset_card(title: str, spread: Spread | None, base: str, method: str) -> Card:
    if spread is None:
        return Card(title, State.BAD, "none", "no method gave enough valid estimates")
    if spread.restarts:
        return Card(title, State.NONE, "each round's own", "counters start anew: offsets of rounds do not compare")
    note = f"{'RMSE' if spread.against_truth else 'off a straight line'}, {method}"
    if spread.ratio is None:
        return Card(title, State.NONE, quantity(spread.rmse, base), f"{note}; no prediction to compare with")
    note += f"; {spread.ratio:.2f}× the predicted {quantity(spread.predicted, base)}"
    if not spread.as_predicted:
        note += f"; single errors are {spread.normalized:.1f}× their stated σ, more than chance explains"
    elif spread.overstated:
        note += "; deviations are stated too wide"
    return Card(title, State.GOOD if spread.as_predicted else State.LOOK, quantity(spread.rmse, base), note)


def _valid_card(headline: MethodFigures | None) -> Card:
    if headline is None:
        return Card("Valid estimates", State.BAD, "none", "no method gave a clock offset")
    share = headline.valid / headline.rows
    state = State.GOOD if share >= 0.95 else State.LOOK if headline.valid else State.BAD
    note = f"by {headline.method}"
    if headline.reasons:
        note += f"; most often not: {headline.reasons[0][0]}"
    return Card("Valid estimates", state, f"{headline.valid} of {headline.rows}", note)


def _chance_of_at_most(held: int, judged: int, share: float) -> float:
    """Chance that of ``judged`` independent trials of probability ``share`` no more than ``held`` succeed."""
    return sum(comb(judged, k) * share**k * (1 - share) ** (judged - k) for k in range(held + 1))


def _movers(summary: RunSummary) -> list[TargetFigures]:
    """Targets that move; all where none does."""
    return [t for t in summary.targets if t.moving] or list(summary.targets)


def _target_card(summary: RunSummary) -> Card:
    title = "Targets found"
    targets = _movers(summary)
    if not targets:
        if summary.unnamed_detections:
            return Card(title, State.NONE, f"{summary.unnamed_detections}", "detections; what was there is not known")
        return Card(title, State.NONE, "none", "nothing was detected, and what was there is not known")
    known = [t for t in targets if t.rounds is not None]
    found, present = sum(t.found for t in known), sum(t.rounds or 0 for t in known)
    if not known:
        return Card(title, State.NONE, ", ".join(t.name for t in targets), "named by the run without truth")
    state = State.GOOD if found >= 0.95 * present else State.LOOK if found else State.BAD
    held, judged = sum(t.ellipses[0] for t in known), sum(t.ellipses[1] for t in known)
    honest = _chance_of_at_most(held, judged, 0.95) > 0.01
    if state is State.GOOD and not honest:
        state = State.LOOK
    who = ", ".join(t.name for t in known) if len(known) <= 3 else f"{len(known)} targets"
    misses = [t.position_rmse_m for t in known if t.position_rmse_m is not None]
    note = f"rounds with {who} detected"
    if misses:
        note += f"; positions to {metres(max(misses))} RMS"
    if not honest:
        note += f", but only {held} of {judged} ellipses hold the truth"
    if summary.unnamed_detections:
        note += f"; {summary.unnamed_detections} detections match nothing there"
    return Card(title, state, f"{found} of {present}", note)


def _payload_card(summary: RunSummary) -> Card:
    total = summary.payload_total
    if total is None:
        return Card("Payload", State.NONE, "none", "the run reports no payload")
    frames = "" if total.frames is None else f" of {total.frames}"
    note = (
        f"{total.frames_lost}{frames} frames lost"
        if total.frames_lost
        else f"all{frames.removeprefix(' of')} frames heard"
    )
    if total.evm_db is not None:
        note += f"; EVM {total.evm_db:.1f} dB".replace("-", "−")
    if total.bit_errors is None:
        state = State.NONE if total.frames_lost == 0 else State.LOOK
        return Card("Payload", state, f"{total.bits:,} bits".replace(",", " "), note)
    clean = total.bit_errors == 0 and total.frames_lost == 0
    value = "no bit errors" if total.bit_errors == 0 else f"BER {small_share(total.bit_errors / max(total.bits, 1))}"
    note = f"{total.bits:,} bits; ".replace(",", " ") + note
    return Card("Payload", State.GOOD if clean else State.LOOK, value, note)


def _loss_card(summary: RunSummary) -> Card:
    title = "Rounds and losses"
    value = f"{summary.rounds_finished} of {summary.rounds}"
    parts = ["rounds complete"]
    parts.append(f"{summary.samples_lost:,} samples lost".replace(",", " ") if summary.losses else "no sample lost")
    parts.append(f"{summary.events} event{'s' if summary.events != 1 else ''}" if summary.events else "no event")
    clean = summary.rounds_finished == summary.rounds and not summary.losses and not summary.events
    state = State.GOOD if clean else State.LOOK if summary.rounds_finished else State.BAD
    return Card(title, state, value, ", ".join(parts))


def _clock_clause(summary: RunSummary) -> str:
    headline = summary.headline
    if headline is None or headline.to is None:
        return "No clock offset could be estimated"
    if headline.to.restarts:
        return "Counters start anew with each round, so that its offsets are its own"
    size = quantity(headline.to.rmse, "s")
    if headline.cfo is not None:
        size += f" and {quantity(headline.cfo.rmse, 'Hz')}"
    verb = "are known to" if headline.to.against_truth else "scatter by"
    tail = "" if headline.to.against_truth else " about a straight line"
    spreads = [s for s in (headline.to, headline.cfo) if s is not None and s.ratio is not None]
    if spreads:
        if not all(s.as_predicted for s in spreads):
            tail += ", further off than their stated deviations allow"
        elif any(s.overstated for s in spreads):
            tail += ", within their stated deviations"
        else:
            tail += ", as the bound predicts"
    return f"The clocks' offsets {verb} {size} RMS{tail}"


def _target_clause(summary: RunSummary) -> str:
    known = [t for t in _movers(summary) if t.rounds]
    if not known:
        return ""
    if all(t.found == t.rounds for t in known):
        who = " and ".join(t.name for t in known) if len(known) <= 2 else "every target"
        return f"{who} found in every round"
    return "; ".join(f"{t.name} found in {t.found} of {t.rounds} rounds" for t in known[:3])


def _payload_clause(summary: RunSummary) -> str:
    total = summary.payload_total
    if total is None:
        return ""
    if total.bit_errors == 0 and total.frames_lost == 0:
        return "the payload came through without a bit error"
    parts = [] if total.bit_errors is None else [f"bit error rate {small_share(total.bit_errors / max(total.bits, 1))}"]
    if total.frames_lost:
        parts.append(f"{total.frames_lost} frame{'s' if total.frames_lost > 1 else ''} lost")
    return ", ".join(parts)


def judge(summary: RunSummary) -> Verdict:
    """Six figures with their states, the worst of which is the run's, and the sentence that sums them up."""
    headline = summary.headline
    name = headline.method if headline else ""
    cards = (
        _offset_card("Time offset", headline.to if headline else None, "s", name),
        _offset_card("Frequency offset", headline.cfo if headline else None, "Hz", name),
        _valid_card(headline),
        _target_card(summary),
        _payload_card(summary),
        _loss_card(summary),
    )
    clauses = [_clock_clause(summary), _target_clause(summary), _payload_clause(summary)]
    sentence = "; ".join(c for c in clauses if c) + "."
    bad = [c.title.lower() for c in cards if c.state is State.BAD]
    look = [c.title.lower() for c in cards if c.state is State.LOOK]
    if bad:
        return Verdict(State.BAD, "Failed: " + ", ".join(bad), sentence, cards)
    if look:
        return Verdict(State.LOOK, "Look at: " + ", ".join(look), sentence, cards)
    return Verdict(State.GOOD, "As it should be", sentence, cards)
