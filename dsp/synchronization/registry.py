"""Synchronization methods by the name they carry in the experiment file."""

from __future__ import annotations

from dsp.synchronization.auto import Automatic
from dsp.synchronization.base import Method
from dsp.synchronization.cacc import CrossAntennaCorrelation
from dsp.synchronization.cooperation import Cooperation, CooperationCorrelation
from dsp.synchronization.csi_ratio import CsiRatio, CsiRatioFirstOrder
from dsp.synchronization.fingerprint import FingerprintMethod
from dsp.synchronization.path_resolved import PathResolved, PathResolvedAngle, PathResolvedDictionary
from dsp.synchronization.reciprocity import ReciprocityMLE, ReciprocityPencil
from dsp.synchronization.spectral_correlation import SpectralCorrelation, SpectralCorrelationInterpolated
from dsp.synchronization.structured import ReciprocityStructured

__all__ = ["METHODS", "method"]

METHODS: dict[str, Method] = {
    built_in.name: built_in
    for built_in in (
        ReciprocityMLE(),
        ReciprocityPencil(),
        ReciprocityStructured(),
        SpectralCorrelation(),
        SpectralCorrelationInterpolated(),
        Automatic(),
        CrossAntennaCorrelation(),
        CsiRatio(),
        CsiRatioFirstOrder(),
        PathResolved(),
        PathResolvedAngle(),
        PathResolvedDictionary(),
        FingerprintMethod(),
        Cooperation(),
        CooperationCorrelation(),
    )
}
"""Every method built in, in the order in which reports list them."""


def method(name: str) -> Method:
    """Method of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise ValueError(f"no synchronization method '{name}': there are {', '.join(METHODS)}") from None
