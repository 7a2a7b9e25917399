"""MUSIC of many covariances at once, against all their eigenvectors."""

from __future__ import annotations

import numpy as np
import pytest

from dsp.sensing.angle import null_spectra, steering

POSITIONS = 0.0625 * np.arange(8)


@pytest.mark.parametrize(("sources", "power"), [(1, 10.0), (2, 10.0), (3, 0.5), (1, 0.05)])
def test_spectra_are_those_of_all_eigenvectors(sources, power):
    """Strong sources, and such as hardly stand out, where the iteration takes longest or gives way to eigenvalues."""
    rng = np.random.default_rng(sources)
    count, snapshots = 40, 20
    response = steering(np.linspace(-0.99, 0.99, 181), POSITIONS, 2.4e9)
    arrivals = steering(rng.uniform(-0.9, 0.9, count * sources), POSITIONS, 2.4e9).T.reshape(count, sources, 8)
    shape = (count, snapshots, sources)
    gains = np.sqrt(power) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    noise = rng.standard_normal((count, snapshots, 8)) + 1j * rng.standard_normal((count, snapshots, 8))
    heard = gains @ arrivals + noise
    covariances = np.einsum("cna,cnb->cab", heard, heard.conj())
    vectors = np.linalg.eigh(covariances)[1][:, :, : 8 - sources]
    truth = np.sum(np.abs(vectors.conj().transpose(0, 2, 1) @ response) ** 2, axis=1)
    found = null_spectra(covariances, response, sources=sources)
    assert np.abs(found - truth).max() < 1e-9 * truth.max()


def test_as_many_sources_as_antennas_are_refused():
    with pytest.raises(ValueError, match="need more than 8 antennas"):
        null_spectra(np.eye(8)[None], np.ones((8, 3), complex), sources=8)
