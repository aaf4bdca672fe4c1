"""Sound of any rate to 16 kHz as it comes in, chunk by chunk, with no seam between chunks.

Band-limited interpolation. With input rate r, output rate q = 16000, q/r = L/M in lowest terms, output sample
k lies at input position p = k M / L, and

    y[k] = sum_j x[j] h(p - j),   h(t) = c sinc(c t) w(t / a),   c = min(1, q / r) * 0.95

w is a Kaiser window (beta 8, side lobes below -80 dB), a = ZEROS / c its half width in input samples. p has
only L different fractions, so h is a table of L rows. y[k] needs a input samples after p: output lags input
by a / r (about 1 ms), and its time is still exactly p / r.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from robust_perception.vocabulary import AUDIO_RATE

ZEROS = 16
"""Zero crossings of the kernel on each side."""

ROLL_OFF = 0.95
"""Cut-off as a part of the lower Nyquist frequency; the rest is the transition band."""

BETA = 8.0
"""Shape of the Kaiser window."""

BLOCK = 1 << 12
"""Output samples made at once: each has its own copy of the input around it, 800 MB in a minute of sound."""

MOST_ENTRIES = 1 << 19
"""Of a table that is made within a second. Every multiple of 25 Hz up to 384 kHz needs fewer."""


def table_entries(rate: int) -> int:
    """Entries of the table that an input rate in Hz needs."""
    return AUDIO_RATE // math.gcd(rate, AUDIO_RATE) * 2 * _half_width(rate)


def _cutoff(rate: int) -> float:
    return min(1.0, AUDIO_RATE / rate) * ROLL_OFF


def _half_width(rate: int) -> int:
    return math.ceil(ZEROS / _cutoff(rate))


class Resampler:
    """Makes 16 kHz of one stream; one instance per stream, fed in order.

    Args:
        rate: samples a second of the input, with no more than `MOST_ENTRIES` of `table_entries`.

    Attributes:
        half_width: input samples an output sample needs on each side.
    """

    def __init__(self, rate: int) -> None:
        divisor = math.gcd(rate, AUDIO_RATE)
        self._up, self._down = AUDIO_RATE // divisor, rate // divisor
        cutoff, self.half_width = _cutoff(rate), _half_width(rate)
        taps = np.arange(-self.half_width + 1, self.half_width + 1)
        fractions = np.arange(self._up)[:, np.newaxis] / self._up
        distance = fractions - taps  # of output position to input sample
        inside = np.clip(1.0 - (distance / self.half_width) ** 2, 0.0, None)
        window = np.i0(BETA * np.sqrt(inside)) / np.i0(BETA)
        table = cutoff * np.sinc(cutoff * distance) * window
        # Rows sum to one, so that a constant stays that constant whatever the phase.
        self._table = (table / table.sum(axis=1, keepdims=True)).astype(np.float32)
        self.reset()

    def reset(self) -> None:
        """Start over, as if silence had gone before."""
        self._pending = np.zeros(self.half_width - 1, dtype=np.float32)
        self._first = -(self.half_width - 1)  # input index of _pending[0]
        self._next = 0  # index of the next output sample

    @property
    def lag(self) -> float:
        """From the next output sample to the end of the input so far, in input samples."""
        return self._first + self._pending.size - self._next * self._down / self._up

    def push(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Feed samples (n,), get those output samples that are now certain (m,)."""
        pending = np.concatenate((self._pending, samples))
        end = self._first + pending.size
        # Output k needs inputs floor(p) - half_width + 1 .. floor(p) + half_width, all below `end`.
        last_floor = end - 1 - self.half_width
        stop = max(self._next, ((last_floor + 1) * self._up - 1) // self._down + 1)
        parts = [np.zeros(0, dtype=np.float32)]
        for begin in range(self._next, stop, BLOCK):
            positions = np.arange(begin, min(begin + BLOCK, stop), dtype=np.int64) * self._down
            floors, phases = positions // self._up, positions % self._up
            starts = floors - self.half_width + 1 - self._first
            windows = np.lib.stride_tricks.sliding_window_view(pending, 2 * self.half_width)[starts]
            parts.append(np.einsum("ij,ij->i", windows, self._table[phases]).astype(np.float32, copy=False))
        self._next = stop
        needed = (stop * self._down) // self._up - self.half_width + 1
        drop = max(0, min(needed - self._first, pending.size))
        self._pending = pending[drop:]
        self._first += drop
        output: npt.NDArray[np.float32] = np.concatenate(parts)
        return output
