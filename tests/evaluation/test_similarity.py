"""Alignment, uniformity and nearest texts: values that are known, and plain computations."""

import itertools
import math

import numpy as np
import pytest

from sentiment.evaluation.similarity import (
    BLOCK_ROWS,
    compute_alignment,
    compute_class_alignment,
    compute_retrieval_accuracy,
    compute_reversal_accuracy,
    compute_uniformity,
    find_nearest,
    normalize,
)


@pytest.fixture
def rows() -> np.ndarray:
    """More rows than a block, of any length."""
    return np.random.default_rng(0).normal(size=(BLOCK_ROWS + 40, 6)) * 3


def test_alignment_is_0_for_equal_views_and_4_for_opposite_ones(rows: np.ndarray) -> None:
    assert compute_alignment(rows, rows * 5) == pytest.approx(0.0)
    assert compute_alignment(rows, -rows) == pytest.approx(4.0)


def test_uniformity_of_equal_and_opposite_points() -> None:
    same, opposite = np.ones((4, 3)), np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert compute_uniformity(same) == pytest.approx(0.0)
    assert compute_uniformity(opposite) == pytest.approx(-8.0)  # d^2 = 4
    assert compute_uniformity(np.eye(5)) == pytest.approx(-4.0)  # d^2 = 2
    assert compute_uniformity(np.ones((1, 2))) == 0.0


def test_uniformity_is_the_mean_over_pairs(rows: np.ndarray) -> None:
    points = normalize(rows[:30])
    pairs = [math.exp(-2 * float(((a - b) ** 2).sum())) for a, b in itertools.combinations(points, 2)]
    assert compute_uniformity(rows[:30]) == pytest.approx(math.log(sum(pairs) / len(pairs)))


def test_uniform_points_on_a_sphere_are_nearly_optimal() -> None:
    """In 384 dimensions, d^2 is 2 for nearly all pairs."""
    points = np.random.default_rng(1).normal(size=(400, 384))
    assert compute_uniformity(points) == pytest.approx(-4.0, abs=0.05)


def test_class_alignment_is_the_mean_over_pairs_of_a_class(rows: np.ndarray) -> None:
    labels = np.random.default_rng(2).integers(3, size=30)
    points = normalize(rows[:30])
    pairs = [
        float(((points[a] - points[b]) ** 2).sum())
        for a, b in itertools.combinations(range(30), 2)
        if labels[a] == labels[b]
    ]
    assert compute_class_alignment(rows[:30], labels) == pytest.approx(sum(pairs) / len(pairs))


def test_the_nearest_text_is_found_over_all_blocks(rows: np.ndarray) -> None:
    similarities = normalize(rows) @ normalize(rows).T
    places, found = find_nearest(rows, rows)
    assert places.tolist() == list(range(len(rows)))
    assert found == pytest.approx(1.0)
    np.fill_diagonal(similarities, -2)
    places, found = find_nearest(rows, rows, excludes_self=True)
    assert places.tolist() == similarities.argmax(1).tolist()
    assert found == pytest.approx(similarities.max(1))


def test_an_equal_text_counts_as_the_own_view() -> None:
    anchors = np.eye(3)
    positives = anchors[[1, 0, 2]]  # the first two are exchanged
    assert compute_retrieval_accuracy(anchors, positives, np.array([1, 2, 3])) == pytest.approx(1 / 3)
    assert compute_retrieval_accuracy(anchors, positives, np.array([1, 1, 3])) == 1.0


def test_reversed_texts_may_be_closer_than_views() -> None:
    anchors, near, far = np.eye(2), np.array([[1.0, 0.1], [0.1, 1.0]]), np.ones((2, 2))
    assert compute_reversal_accuracy(anchors, near, far) == 1.0
    assert compute_reversal_accuracy(anchors, np.stack([near[0], far[1]]), np.stack([far[0], near[1]])) == 0.5
