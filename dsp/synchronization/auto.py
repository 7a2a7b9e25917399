"""The two-way method that suits what was observed, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri

from dsp.synchronization.base import Need, Observation, Offset, Port, require
from dsp.synchronization.matched_product import TwoWayLink, two_way_link
from dsp.synchronization.reciprocity import ReciprocityMLE
from dsp.synchronization.spectral_correlation import SpectralCorrelationInterpolated
from dsp.synchronization.structured import ReciprocityStructured, Structure, structure, structured_offset

__all__ = ["Automatic", "Reciprocity", "chosen", "coherence", "reciprocity"]

_STRUCTURED = ReciprocityStructured().name
_MLE = ReciprocityMLE().name
_CORRELATION = SpectralCorrelationInterpolated().name
_LOW_SNR_DB = -8.0
_REFUSAL = 1e-4  # chance that reciprocal directions are refused
_CLEARLY_BETTER = 0.97  # of the likelihood method's deviation: on equal terms the one that assumes no paths
_DISAGREEMENT = 5.0  # deviations
_COHERENT, _DOUBT = 0.95, 3.0  # of one, and deviations below it


@dataclass(frozen=True)
class Automatic:
    """Two-way offset by the reciprocity method that measured SNR and tested assumptions call for.

    Shared paths are fitted first (`ReciprocityStructured`). Where they explain the link, their amplitudes tell
    whether the directions are reciprocal up to one complex factor: a likelihood-ratio test. Then:

    - separate ports: the structured fit, whatever it says;
    - not reciprocal: the structured fit;
    - reciprocal: maximum likelihood on the matched product, unless the structured fit's deviation is clearly
      smaller, as it is at low SNR and with few paths, where the product multiplies noise with noise;
    - no fit to paths: maximum likelihood, or below -8 dB the interpolated spectral correlation, if the matched
      product is coherent, that is if its sum reaches what the directions' power makes it where they are alike.

    Where the paths do not fit and the directions are not coherent the result is invalid.

    ``reason`` names the choice and why; ``details["chosen"]`` the method.

    Source: methods section 3.6.
    """

    name: str = "auto"
    needs: frozenset[Need] = frozenset({Need.REVERSE_LINK})

    def estimate(self, observation: Observation) -> Offset:
        """Offset of the forward receiver against the forward transmitter; raises as `ReciprocityMLE.estimate`."""
        require(observation, self.needs)
        link = two_way_link(observation)
        try:
            found = structure(observation, link)
        except ValueError:
            found = None
        structured = None if found is None else structured_offset(observation, link, found)
        if observation.port is Port.SEPARATE and structured is not None:
            return _named(structured, _STRUCTURED, "separate ports")
        likelihood = ReciprocityMLE().estimate(observation)
        correlation = None
        if (structured is None or not structured.valid) and (likelihood.snr_db or 0.0) < _LOW_SNR_DB:
            correlation = SpectralCorrelationInterpolated().estimate(observation)
        return chosen(structured, found, likelihood, correlation, coherence(link, likelihood))


@dataclass(frozen=True)
class Reciprocity:
    """Whether the shared paths' amplitudes are alike up to one complex factor."""

    reciprocal: bool
    statistic: float
    """Log-likelihood that free amplitudes add."""
    free: int
    """Real parameters that they have more."""


def reciprocity(found: Structure) -> Reciprocity:
    """Likelihood-ratio test of reciprocal amplitudes, each path's own variance taken for its noise."""
    forward, reverse = found.fit.amplitudes
    variance = np.abs(found.fit.amplitudes) ** 2 / np.maximum(found.fit.significance, 1e-12)
    gain = complex(np.sum(forward * np.conj(reverse)) / np.sum(np.abs(reverse) ** 2))
    for _ in range(3):  # the factor's own size weighs the reverse direction's noise
        weights = 1.0 / (variance[0] + abs(gain) ** 2 * variance[1])
        gain = complex(np.sum(weights * forward * np.conj(reverse)) / np.sum(weights * np.abs(reverse) ** 2))
    statistic = float(np.sum(np.abs(forward - gain * reverse) ** 2 * weights)) / max(found.noise_ratio, 1.0)
    free = 2 * len(forward) - 2
    limit = float(chdtri(free, _REFUSAL)) if free else 0.0
    return Reciprocity(reciprocal=free == 0 or 2.0 * statistic < limit, statistic=statistic, free=free)


def chosen(
    structured: Offset | None,
    found: Structure | None,
    likelihood: Offset,
    correlation: Offset | None,
    alike: tuple[float, float],
) -> Offset:
    """The one of the methods' results that the observation calls for, with the reason."""
    snr = f"SNR {likelihood.snr_db:.1f} dB"
    if structured is None or found is None or not structured.valid:
        why = "no path found" if structured is None else structured.reason
        if alike[0] < _COHERENT - _DOUBT * alike[1]:
            why = f"{why}; and the directions are not alike (coherence {alike[0]:.2f})"
            return replace(_named(structured or likelihood, _STRUCTURED, f"{snr}; {why}"), valid=False)
        if correlation is not None:
            return _named(correlation, _CORRELATION, f"{snr}; {why}")
        return _named(likelihood, _MLE, f"{snr}; {why}")
    test = reciprocity(found)
    if not test.reciprocal:
        return _named(structured, _STRUCTURED, f"{snr}; path amplitudes are not reciprocal")
    if not likelihood.valid:
        return _named(structured, _STRUCTURED, f"{snr}; {likelihood.reason}")
    if not _agree(structured, likelihood):
        return _named(structured, _STRUCTURED, f"{snr}; the matched product contradicts the paths")
    if (structured.to_std_s or 0.0) < _CLEARLY_BETTER * (likelihood.to_std_s or 0.0):
        return _named(structured, _STRUCTURED, f"{snr}; reciprocal, and the paths give the smaller deviation")
    return _named(likelihood, _MLE, f"{snr}; reciprocal")


def coherence(link: TwoWayLink, likelihood: Offset) -> tuple[float, float]:
    """Sum of the matched product, offsets taken off, over the directions' power; and its deviation.

    One where the directions are alike; √(power shared) or less where path phases or amplitudes differ.
    """
    u, v = likelihood.details["residual_to_s"], likelihood.details["residual_cfo_hz"]
    known = link.weights > 0.0
    weights = link.weights[known]
    variances = link.forward_variance[known], link.reverse_variance[known]
    total = float(abs(np.sum(link.derotated(link.product, u, v)[known])))
    powers = np.abs(link.forward[known]) ** 2 + np.abs(link.reverse[known]) ** 2 - variances[0] - variances[1]
    signal = 0.5 * float(np.sum(weights * powers))
    if signal <= 0.0:
        return 0.0, np.inf
    noise = float(np.sum(weights**2 * (2.0 * variances[0] * variances[1] + variances[0] ** 2 + variances[1] ** 2)))
    return total / signal, float(np.sqrt(signal + 0.25 * noise)) / signal


def _agree(structured: Offset, likelihood: Offset) -> bool:
    if None in (structured.to_s, structured.to_std_s, likelihood.to_s, likelihood.to_std_s):
        return True
    apart_s = abs((structured.to_s or 0.0) - (likelihood.to_s or 0.0))
    return apart_s < _DISAGREEMENT * float(np.hypot(structured.to_std_s or 0.0, likelihood.to_std_s or 0.0))


def _named(offset: Offset, name: str, why: str) -> Offset:
    reason = f"{name}: {why}"
    if offset.reason and offset.reason not in why:
        reason = f"{reason}; {offset.reason}"
    return replace(offset, reason=reason, details=offset.details | {"chosen": name})
