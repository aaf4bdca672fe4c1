"""Which cell answers for which box: cases worked out by hand, and the rules again in plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robust_perception.training.targets import UNKNOWN, Targets, assign

SIZE = (96, 160)
CELLS = [
    (s, (j + 0.5) * s, (i + 0.5) * s)
    for s in (8, 16, 32)
    for i in range(SIZE[0] // s)
    for j in range(SIZE[1] // s)
]
"""(stride, u, v) in the order of the network's cells."""
LIMITS = {8: (0.0, 48.0), 16: (48.0, 96.0), 32: (96.0, math.inf)}

Box = tuple[float, float, float, float]


def targets_of(*boxes: Box, classes: tuple[int, ...] | None = None) -> Targets:
    ids = classes if classes is not None else tuple(range(1, len(boxes) + 1))
    return assign([torch.tensor(boxes).reshape(-1, 4)], [torch.tensor(ids, dtype=torch.int64)], SIZE)


def answering(targets: Targets, class_id: int) -> list[tuple[int, float, float]]:
    return [CELLS[int(i)] for i in torch.nonzero(targets.classes[0] == class_id).flatten()]


def by_the_rules(boxes: list[Box]) -> list[int]:
    """Index of the box each cell answers for, -1 for none; plain loops over the head of targets.py."""
    owners: list[list[int]] = [[] for _ in CELLS]
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        for cell, (stride, u, v) in enumerate(CELLS):
            distances = (u - x1, v - y1, x2 - u, y2 - v)
            low, high = LIMITS[stride]
            near = max(abs(u - centre[0]), abs(v - centre[1])) < 1.5 * stride
            if min(distances) > 0 and near and low < max(distances) <= high:
                owners[cell].append(index)
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        centre = ((x1 + x2) / 2, (y1 + y2) / 2)
        aside = [max(abs(u - centre[0]), abs(v - centre[1])) for _, u, v in CELLS]
        if not any(index in owners[c] and aside[c] <= s / 2 for c, (s, _, _) in enumerate(CELLS)):
            side = max(x2 - x1, y2 - y1) / 2
            stride = next(s for s, (_, high) in LIMITS.items() if side <= high)
            candidates = [c for c, (s, _, _) in enumerate(CELLS) if s == stride]
            nearest = min(candidates, key=aside.__getitem__)
            if index not in owners[nearest]:
                owners[nearest].append(index)

    def area(index: int) -> float:
        x1, y1, x2, y2 = boxes[index]
        return (x2 - x1) * (y2 - y1)

    return [min(owner, key=area) if owner else -1 for owner in owners]


def test_a_box_is_answered_by_the_cells_around_its_centre() -> None:
    targets = targets_of((20.0, 20.0, 60.0, 60.0))
    cells = answering(targets, 1)
    assert {stride for stride, _, _ in cells} == {8}
    assert sorted({u for _, u, _ in cells}) == [36.0, 44.0]
    assert sorted({v for _, _, v in cells}) == [36.0, 44.0]
    assert targets.boxes[0][targets.classes[0] == 1].tolist() == [[20.0, 20.0, 60.0, 60.0]] * 4


def test_centre_ness_is_one_in_the_middle_and_its_formula_elsewhere() -> None:
    targets = targets_of((8.0, 8.0, 32.0, 32.0))
    found = dict(zip(CELLS, targets.centres[0].tolist(), strict=True))
    assert found[(8, 20.0, 20.0)] == pytest.approx(1.0)
    assert found[(8, 12.0, 20.0)] == pytest.approx(math.sqrt(4 / 20))
    assert found[(8, 12.0, 28.0)] == pytest.approx(math.sqrt(4 / 20 * 4 / 20))


@pytest.mark.parametrize(
    ("box", "strides"),
    [((2.0, 2.0, 10.0, 10.0), {8}), ((20.0, 10.0, 140.0, 90.0), {16}), ((0.0, 0.0, 160.0, 96.0), {16, 32})],
)
def test_large_boxes_are_answered_at_large_strides(box: Box, strides: set[int]) -> None:
    assert {stride for stride, _, _ in answering(targets_of(box), 1)} <= strides


def test_a_box_too_small_to_hold_a_cell_takes_the_nearest() -> None:
    targets = targets_of((13.0, 21.0, 15.5, 23.0))
    assert answering(targets, 1) == [(8, 12.0, 20.0)]
    assert targets.boxes[0][targets.classes[0] == 1].tolist() == [[13.0, 21.0, 15.5, 23.0]]
    # 2.25 and 2 pixels beside its centre, of a box 16 pixels wide and high
    assert float(targets.centres.max()) == pytest.approx(math.sqrt(5.75 / 10.25 * 6 / 10))


def test_a_narrow_box_is_worth_as_much_as_one_of_two_cells() -> None:
    targets = targets_of((13.5, 0.0, 17.5, 70.0))  # a post between two columns of cells
    found = {cell: c for cell, c in zip(CELLS, targets.centres[0].tolist(), strict=True) if c}
    assert found == {(8, 12.0, 36.0): pytest.approx(math.sqrt(4.5 / 11.5 * 34 / 36))}


def test_where_boxes_overlap_the_smallest_wins() -> None:
    large, small = (10.0, 10.0, 70.0, 70.0), (30.0, 30.0, 50.0, 50.0)
    for boxes, ids in (((large, small), (1, 2)), ((small, large), (2, 1))):
        targets = targets_of(*boxes, classes=ids)
        cells = answering(targets, 2)
        assert (8, 36.0, 36.0) in cells
        assert all(30 < u < 50 and 30 < v < 50 for _, u, v in cells)


def test_nothing_there_asks_for_nothing() -> None:
    targets = targets_of()
    assert targets.classes.shape == (1, len(CELLS))
    assert not bool(targets.classes.any())
    assert not bool(targets.boxes.any())
    assert not bool(targets.centres.any())


def test_samples_of_a_batch_are_apart() -> None:
    boxes = [torch.tensor([[8.0, 8.0, 32.0, 32.0]]), torch.zeros(0, 4)]
    targets = assign(boxes, [torch.tensor([3]), torch.zeros(0, dtype=torch.int64)], SIZE)
    assert bool((targets.classes[0] == 3).any())
    assert not bool(targets.classes[1].any())


def test_cells_where_nobody_looked_say_nothing_unless_they_answer_for_a_box() -> None:
    targets = targets_of((8.0, 8.0, 32.0, 32.0))
    unsearched = torch.zeros(1, *SIZE, dtype=torch.bool)
    unsearched[:, :, :80] = True
    expected = [0 if u >= 80 else UNKNOWN for _, u, _ in CELLS]
    found = targets.unknown_in(unsearched)
    own = found.classes[0] == 1
    assert torch.equal(own, targets.classes[0] == 1)
    assert found.classes[0][~own].tolist() == torch.tensor(expected)[~own].tolist()
    assert all(torch.equal(a, b) for a, b in zip(found[1:], targets[1:], strict=True))


def test_the_last_cells_of_a_picture_that_is_no_multiple_of_them_are_those_of_its_last_pixels() -> None:
    empty = assign([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], (34, 65))
    unsearched = torch.zeros(1, 34, 65, dtype=torch.bool)
    unsearched[:, -1, -1] = True
    hidden = torch.nonzero(empty.unknown_in(unsearched).classes[0]).flatten().tolist()
    assert hidden == [5 * 9 - 1, 5 * 9 + 3 * 5 - 1, 5 * 9 + 3 * 5 + 2 * 3 - 1]


@st.composite
def some_boxes(draw: st.DrawFn) -> list[Box]:
    """Up to five boxes inside the picture, in quarters of pixels, no two of one size."""
    boxes: list[Box] = []
    for _ in range(draw(st.integers(1, 5))):
        width, height = draw(st.integers(8, 4 * SIZE[1])), draw(st.integers(8, 4 * SIZE[0]))
        x = draw(st.integers(0, 4 * SIZE[1] - width))
        y = draw(st.integers(0, 4 * SIZE[0] - height))
        boxes.append((x / 4, y / 4, (x + width) / 4, (y + height) / 4))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes]
    return [box for i, box in enumerate(boxes) if areas[i] not in areas[:i]]


def equally_near(box: Box) -> bool:
    """Whether a box's centre lies midway between cells, where "the nearest" is not one cell."""
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for stride in LIMITS:
        aside = sorted(max(abs(u - centre[0]), abs(v - centre[1])) for s, u, v in CELLS if s == stride)
        if aside[0] == aside[1]:
            return True
    return False


@settings(max_examples=150)
@given(boxes=some_boxes())
def test_it_is_the_rules(boxes: list[Box]) -> None:
    boxes = [box for box in boxes if not equally_near(box)]
    targets = targets_of(*boxes)
    expected = by_the_rules(boxes)
    assert targets.classes[0].tolist() == [owner + 1 for owner in expected]
    for cell, owner in enumerate(expected):
        found = tuple(targets.boxes[0, cell].tolist())
        assert found == (boxes[owner] if owner >= 0 else (0.0, 0.0, 0.0, 0.0))
        centre = float(targets.centres[0, cell])
        assert 0.0 <= centre <= 1.0
        assert owner >= 0 or centre == 0.0


@settings(max_examples=150)
@given(boxes=some_boxes())
@example(boxes=[(6.25, 7.5, 8.25, 56.25)])  # but for its nearest cell, one at its end answers for it
def test_every_box_alone_has_an_answer_that_counts(boxes: list[Box]) -> None:
    for box in boxes:
        assert float(targets_of(box).centres.max()) >= 0.333, box
