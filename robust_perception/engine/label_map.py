"""Class scores of a coarse grid to a label map: the class with the largest score at every pixel.

A pixel's scores lie between those of the four grid points around it (half-pixel centres, edges repeated):

    s_k(y, x) = sum_c w_c(y, x) s_k(c)    c = 1..4,  w_c >= 0,  sum_c w_c = 1
    label     = argmax_k s_k

Where one class is the largest at all four it is the largest between them, for every term of its sum is. That
holds for nineteen pixels of twenty; interpolated are only the cells between points that disagree. On a CPU
this takes a fifth of the time of interpolating all, which is a quarter of the fusion's; on a GPU it is the
other way round, and graphs for GPUs make the map themselves.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt

MANY = 4
"""One cell in so many that is mixed: from there on interpolating all of them is quicker."""

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


def magnification(size: tuple[int, int], coarse: tuple[int, int]) -> int | None:
    """How many pixels a grid point stands for along either axis; None where that is not one even number."""
    factor = size[0] // max(1, coarse[0])
    whole = (coarse[0] * factor, coarse[1] * factor) == size
    return factor if whole and factor > 0 and factor % 2 == 0 else None


def label_map(scores: Scores, factor: int) -> Labels:
    """The class of every pixel.

    Args:
        scores: float32 (K, h, w), one a class and grid point; of equal ones the first class counts.
        factor: see `magnification`.

    Returns:
        uint8 (h factor, w factor), class index.
    """
    _, height, width = scores.shape
    largest = cv2.copyMakeBorder(_first_largest(scores), 1, 1, 1, 1, cv2.BORDER_REPLICATE).astype(np.uint8)
    # Cell (i, j) is what lies between the grid points (i - 1, j - 1) and (i, j): it begins half a point's
    # pixels before the latter. The outermost stick out by half a point.
    first = largest[:-1, :-1]
    mixed = (first != largest[:-1, 1:]) | (first != largest[1:, :-1]) | (first != largest[1:, 1:])
    cells = np.flatnonzero(mixed)
    if cells.size > mixed.size // MANY:
        return _interpolated(scores, factor)
    labels = np.repeat(np.repeat(first, factor, axis=1), factor, axis=0)
    if cells.size:
        i, j = np.divmod(cells, width + 1)
        top, bottom = np.maximum(i - 1, 0) * width, np.minimum(i, height - 1) * width
        left, right = np.maximum(j - 1, 0), np.minimum(j, width - 1)
        corners = np.stack([top + left, top + right, bottom + left, bottom + right])
        inside = _weights(factor) @ scores.reshape(len(scores), -1)[:, corners]
        blocks = labels.reshape(height + 1, factor, width + 1, factor)
        blocks[i, :, j, :] = _first_largest(inside).T.reshape(-1, factor, factor)
    half = factor // 2
    return np.ascontiguousarray(labels[half:-half, half:-half])


def _interpolated(scores: Scores, factor: int) -> Labels:
    size = (scores.shape[2] * factor, scores.shape[1] * factor)
    return _first_largest([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in scores])


def _first_largest(scores: Scores | list[Scores]) -> Labels:
    """Index of the largest along the first axis, of equal ones the first: argmax, several times as quick."""
    best = scores[0].copy()
    labels: Labels = np.zeros(best.shape, np.uint8)
    for index in range(1, len(scores)):
        np.putmask(labels, scores[index] > best, index)
        np.maximum(best, scores[index], out=best)
    return labels


@functools.cache
def _weights(factor: int) -> Scores:
    """Of the four corners (columns) at every pixel of a cell (rows), row by row."""
    along = (np.arange(factor, dtype=np.float32) + 0.5) / factor
    y, x = (side.ravel() for side in np.meshgrid(along, along, indexing="ij"))
    return np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=1)
