"""Label issues on constructed probabilities, against cleanlab's own answer and known counts."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues as find_by_cleanlab

from sentiment.evaluation.label_issues import find_label_issues

NAMES = ("negative", "neutral", "positive")


def build_noisy(rows: int, flipped: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, labels of which the first `flipped` are the next class, and probabilities of a good model."""
    generator = np.random.default_rng(seed)
    true = generator.integers(0, 3, rows)
    scores = generator.uniform(0.0, 0.25, (rows, 3))
    scores[np.arange(rows), true] += 2.0
    given = true.copy()
    given[:flipped] = (true[:flipped] + 1) % 3
    return true, given, scores / scores.sum(axis=1, keepdims=True)


def test_planted_errors_are_found_with_their_class_and_share() -> None:
    true, given, probabilities = build_noisy(600, 30)
    found = find_label_issues(given, probabilities, NAMES)
    assert {*found.rows.tolist()} <= {*range(30)}
    assert len(found.rows) >= 27  # one is missed if its class is less probable than it is on average
    assert (found.suggested == true[found.rows]).all()
    assert found.share == pytest.approx(0.05, abs=0.01)
    for number, name in enumerate(NAMES):
        labelled = given == number
        assert found.shares[name] == pytest.approx((given != true)[labelled].mean(), abs=0.02)
    own = probabilities[found.rows, given[found.rows]]
    assert (np.diff(own) >= 0).all()


def test_right_labels_are_not_suspected() -> None:
    _, given, probabilities = build_noisy(300, 0)
    found = find_label_issues(given, probabilities, NAMES)
    assert (len(found.rows), found.share) == (0, 0.0)
    assert found.shares == dict.fromkeys(NAMES, 0.0)


def test_rows_are_those_of_cleanlab_on_overlapping_classes() -> None:
    generator = np.random.default_rng(2)
    given = generator.integers(0, 2, 500)
    positive = np.clip(generator.normal(0.35 + 0.3 * given, 0.2), 0.01, 0.99)
    probabilities = np.stack([1 - positive, positive], axis=1)
    expected = find_by_cleanlab(given, probabilities, filter_by="confident_learning", n_jobs=1)
    found = find_label_issues(given, probabilities, NAMES[::2])
    assert 0 < expected.sum() < 250
    assert sorted(found.rows.tolist()) == np.flatnonzero(expected).tolist()


def test_a_class_without_rows_has_no_wrong_label() -> None:
    _, given, probabilities = build_noisy(300, 0)
    kept = given != 1
    found = find_label_issues(given[kept], probabilities[kept], NAMES)
    assert found.shares["neutral"] == 0.0
