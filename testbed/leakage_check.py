"""Whether a node's own frame arrives over its leakage when it should."""

from __future__ import annotations

import numpy as np
from scipy import fft

from dsp.moment import Moment
from dsp.waveform import Waveform, long_body
from testbed.capture import Capture

__all__ = ["leakage_lag"]

_CLEAR = 8.0
"""Power of the greatest lag over the mean at which it is a frame."""


def leakage_lag(capture: Capture, waveform: Waveform, identity: int, expected: Moment) -> int | None:
    """Samples by which the first frame of the node's own slot comes late; None where it is not heard.

    The long body of its preamble, transformed, against the one that was sent: on the node's own clock there is neither
    carrier offset nor drift, so that one transform of the first antenna decides. Only lags of half a prefix are told.

    Parameters
    ----------
    capture : Capture
        Of one stretch.
    waveform : Waveform
        As the node applied it.
    identity : int
        The node's index.
    expected : Moment
        When the frame's first sample should arrive.
    """
    size, reach = waveform.long_samples, max(waveform.cp_samples // 2, 1)
    start = round(expected.seconds_since(capture.begin) * float(capture.rate_hz))
    body = start + waveform.short_samples + waveform.cp_samples
    if body < 0 or body + size > capture.samples.shape[1]:
        return None
    counts = capture.samples[0, body : body + size].astype(np.float32)
    received = fft.fft(counts[:, 0] + 1j * counts[:, 1])
    sent = fft.fft(long_body(waveform, identity))
    bins = waveform.long_bins % size
    spectrum = np.zeros(size, np.complex64)
    spectrum[bins] = received[bins] * sent[bins].conj()
    power = np.abs(fft.ifft(spectrum)) ** 2
    near = np.roll(power, reach)[: 2 * reach + 1]
    return int(np.argmax(near)) - reach if near.max() > _CLEAR * power.mean() else None
