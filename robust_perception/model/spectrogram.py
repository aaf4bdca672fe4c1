"""Log-mel spectrogram as two matrix products, so that it exports as part of the graph.

With x the sound, w a Hann window of n = 400 samples (25 ms), hop 160 samples (10 ms), N = 512:

    X[t, k]  = sum_j w[j] x[160 t + j] exp(-2 pi i j k / N)         k = 0..N/2
    S[t, b]  = sum_k M[b, k] |X[t, k]|^2                           64 triangular mel filters, 50..8000 Hz
    L[t, b]  = (ln(S + 1e-6) - mean) / std                          constants that centre ordinary sound

The mel scale is HTK's, 2595 log10(1 + f / 700); a filter's peak is 1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_perception.vocabulary import AUDIO_RATE

WINDOW, HOP, FFT, BANDS = 400, 160, 512, 64
LOWEST_HZ, HIGHEST_HZ = 50.0, AUDIO_RATE / 2
FLOOR = 1e-6
MEAN, STD = -5.0, 4.0


def mel_filters() -> npt.NDArray[np.float64]:
    """Weights of the triangular filters, (64, 257)."""

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    mels = np.linspace(to_mel(LOWEST_HZ), to_mel(HIGHEST_HZ), BANDS + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = np.arange(FFT // 2 + 1) * AUDIO_RATE / FFT
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


class LogMel(nn.Module):
    """Sound to log-mel spectrogram; has no parameters."""

    kernel: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
        phase = 2.0 * np.pi * np.outer(np.arange(FFT // 2 + 1), np.arange(WINDOW)) / FFT
        kernel = np.concatenate([np.cos(phase), -np.sin(phase)]) * window
        self.register_buffer("kernel", torch.from_numpy(kernel[:, None]).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters()).float(), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """float32 (B, n), 16 kHz in [-1, 1] -> float32 (B, 64, 1 + (n - 400) // 160)."""
        spectrum = F.conv1d(sound[:, None], self.kernel, stride=HOP)
        real, imaginary = spectrum[:, : FFT // 2 + 1], spectrum[:, FFT // 2 + 1 :]
        power = real * real + imaginary * imaginary
        return (torch.log(torch.matmul(self.filters, power) + FLOOR) - MEAN) / STD
