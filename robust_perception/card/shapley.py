"""Which sensor matters: the Shapley value of each, out of the quality under every pattern.

    phi_m = sum over S without m of  |S|! (n - |S| - 1)! / n!  (v(S + m) - v(S)),   v(nothing) = 0

with v(S) the quality under the pattern S of n sensors. It is what a sensor adds, averaged over all orders in
which the sensors could have joined, and the only division that is fair in this sense: the values of all
sensors add up to the quality with all of them, sensors that always add the same get the same, and one that
never adds anything gets 0. It may be negative: then the others are better off without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from robust_perception.card.errors import CardError
from robust_perception.vocabulary import Modality, Pattern, patterns_of


def shapley(values: Mapping[Pattern, float], sensors: Sequence[Modality]) -> dict[Modality, float]:
    """What each sensor contributes, in the unit of the values.

    Args:
        values: quality under every non-empty pattern of the sensors.
        sensors: all of them.

    Raises:
        CardError: a pattern is missing, or its quality is not known.
    """
    patterns = patterns_of(sensors)
    unknown = [str(p) for p in patterns if math.isnan(values.get(p, math.nan))]
    if unknown:
        msg = f"Shapley value: expected the quality under every pattern, got none for {', '.join(unknown)}"
        raise CardError(msg)
    n = len(sensors)
    shares = dict.fromkeys(sensors, 0.0)
    for pattern in patterns:
        for sensor in pattern:
            rest = [m for m in pattern if m is not sensor]
            without = values[Pattern.of(rest)] if rest else 0.0
            weight = math.factorial(len(rest)) * math.factorial(n - len(rest) - 1) / math.factorial(n)
            shares[sensor] += weight * (values[pattern] - without)
    return shares
