import numpy as np
import pytest

from sentiment.evaluation.probe import compute_probe_accuracy


def draw(rows: int, distance: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two classes, whose means lie so far apart in one of 20 directions."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 2
    features = generator.normal(size=(rows, 20)) * 7 + 100
    features[:, 3] += distance * 7 * labels
    return features, labels


@pytest.mark.parametrize(("distance", "low", "high"), [(0.0, 0.4, 0.6), (2.0, 0.75, 0.9), (8.0, 0.99, 1.0)])
def test_it_finds_what_the_features_know(distance: float, low: float, high: float) -> None:
    """Two normal distributions two deviations apart can be told with 84%, and not by the labels of validation."""
    train, validation = draw(400, distance, 0), draw(1_000, distance, 1)
    assert low <= compute_probe_accuracy(*train, *validation) <= high


def test_it_depends_on_no_scale() -> None:
    train, validation = draw(200, 1.0, 0), draw(500, 1.0, 1)
    scaled = compute_probe_accuracy(train[0] / 1000, train[1], validation[0] / 1000, validation[1])
    assert scaled == compute_probe_accuracy(*train, *validation)


def test_more_than_two_classes() -> None:
    labels = np.arange(300) % 3
    features = np.eye(3)[labels] + np.random.default_rng(0).normal(size=(300, 3)) * 0.1
    assert compute_probe_accuracy(features[:150], labels[:150], features[150:], labels[150:]) == 1.0
