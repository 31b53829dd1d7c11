import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.intervals import compute_wilson_interval
from sentiment.evaluation.metrics import (
    SentimentMetrics,
    choose_labels,
    compute_log_loss,
    compute_metrics,
    evaluate_probabilities,
)


def test_metrics_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 2, 300)
    predictions = np.where(generator.random(300) < 0.8, references, 1 - references)
    metrics = compute_metrics(predictions.astype(np.int32), references, LABEL_NAMES)
    assert metrics["accuracy"] == pytest.approx(accuracy_score(references, predictions))
    assert metrics["precision"] == pytest.approx(precision_score(references, predictions))
    assert metrics["recall"] == pytest.approx(recall_score(references, predictions))
    assert metrics["f1"] == pytest.approx(f1_score(references, predictions))
    assert metrics["macro_f1"] == pytest.approx(f1_score(references, predictions, average="macro"))
    negative = metrics["per_class"]["negative"]
    assert negative["recall"] == pytest.approx(recall_score(references, predictions, pos_label=0))
    assert negative["support"] == (references == 0).sum()
    assert metrics["per_class"]["positive"]["f1"] == metrics["f1"]


def test_confusion_matrix_has_true_labels_in_rows_and_predicted_ones_in_columns() -> None:
    # 4 negatives, 3 of them predicted positive; 2 positives, 1 of them predicted negative.
    metrics = compute_metrics(predictions=[0, 1, 1, 1, 0, 1], references=[0, 0, 0, 0, 1, 1], class_names=LABEL_NAMES)
    assert metrics["confusion_matrix"] == [[1, 3], [1, 1]]
    assert (metrics["precision"], metrics["recall"]) == (1 / 4, 1 / 2)


def test_a_model_that_always_predicts_positive() -> None:
    metrics = compute_metrics(predictions=[1] * 10, references=[1] * 6 + [0] * 4, class_names=LABEL_NAMES)
    assert metrics["confusion_matrix"] == [[0, 4], [0, 6]]
    assert metrics["recall"] == 1.0
    assert metrics["per_class"]["negative"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 4}


def test_a_single_class_still_gives_a_two_by_two_matrix() -> None:
    assert compute_metrics([1, 1], [1, 1], LABEL_NAMES)["confusion_matrix"] == [[0, 0], [0, 2]]


def test_metrics_are_plain_json() -> None:
    metrics = compute_metrics(np.array([1, 0, 1]), np.array([1, 1, 0]), LABEL_NAMES)
    assert json.loads(json.dumps(metrics)) == metrics


def test_wilson_interval_by_hand() -> None:
    share, rows, z = 0.8, 50, 1.959963984540054
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    assert compute_wilson_interval(40, 50) == pytest.approx([centre - half, centre + half])
    assert compute_wilson_interval(0, 10) == pytest.approx([0.0, 0.27753], abs=1e-5)


@pytest.mark.parametrize(("predictions", "references"), [([], []), ([1], [1, 0]), ([2], [1]), ([1], [-1])])
def test_invalid_input_is_refused(predictions: list[int], references: list[int]) -> None:
    with pytest.raises(ValueError, match=r"predictions"):
        compute_metrics(predictions, references, LABEL_NAMES)


def test_metrics_accumulate_over_batches() -> None:
    metric = SentimentMetrics()
    metric.add_batch(predictions=[1, 0], references=[1, 1])
    metric.add_batch(predictions=[0], references=[0])
    assert metric.compute(class_names=LABEL_NAMES) == compute_metrics([1, 0, 0], [1, 1, 0], LABEL_NAMES)


def test_computing_writes_no_file_and_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path))
    threads = threading.active_count()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    compute_metrics([1, 0], [1, 1], LABEL_NAMES)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_the_random_state_is_unchanged() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    compute_metrics([1, 0], [1, 1], LABEL_NAMES)
    assert np.random.random() == expected


def test_threads_can_compute_concurrently() -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda right: compute_metrics([1] * 8, [1] * right + [0] * (8 - right), LABEL_NAMES), range(9))
        )
    assert [result["accuracy"] for result in results] == [right / 8 for right in range(9)]


def test_log_loss() -> None:
    probabilities, references = [[0.1, 0.9, 0.0], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]], [1, 0, 0]
    expected = log_loss(references, probabilities, labels=[0, 1, 2])
    assert compute_log_loss(probabilities, references) == pytest.approx(expected)
    assert compute_log_loss([[0.0, 1.0]], [1]) == 0.0
    assert 20 < compute_log_loss([[0.0, 1.0]], [0]) < 40


def test_choose_labels() -> None:
    positive = np.array([0.0, 0.4999, 0.5, 0.5001, 1.0])
    assert choose_labels(np.stack([1 - positive, positive], axis=1)).tolist() == [0, 0, 0, 1, 1]
    assert choose_labels(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])).tolist() == [1, 0]


def test_metrics_of_five_classes_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels, probabilities = generator.integers(0, 4, 200), generator.dirichlet([1] * 5, 200)
    names = ["1", "2", "3", "4", "5"]
    metrics = evaluate_probabilities(probabilities, labels, names)
    predicted = probabilities.argmax(axis=1)
    for average in ("macro", "weighted"):
        expected = f1_score(labels, predicted, average=average, zero_division=0)
        assert metrics[f"{average}_f1"] == pytest.approx(expected)
    assert metrics["top2_accuracy"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=2, labels=range(5)))
    assert metrics["confusion_matrix"] == confusion_matrix(labels, predicted, labels=range(5)).tolist()
    assert metrics["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(5)))
    assert list(metrics["per_class"]) == names
    assert metrics["per_class"]["5"]["support"] == 0
    largest = int(np.bincount(labels).argmax())
    expected = {"label": names[largest], "accuracy": np.bincount(labels).max() / 200}
    assert metrics["majority_baseline"] == pytest.approx(expected)
    assert not {"precision", "recall", "f1"} & metrics.keys()


def test_macro_f1_leaves_out_classes_that_are_neither_true_nor_predicted() -> None:
    metrics = compute_metrics([0, 2, 2], [0, 2, 0], ["a", "b", "c"])
    assert metrics["macro_f1"] == pytest.approx(f1_score([0, 2, 0], [0, 2, 2], average="macro"))


def test_a_read_only_home_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", "/proc/no/such/folder")
    assert compute_metrics([1, 0], [1, 1], LABEL_NAMES)["accuracy"] == 0.5


def test_clusters_are_counted_and_widen_the_interval() -> None:
    positive, labels = np.array([0.9, 0.8, 0.1, 0.2] * 10), [1, 1, 1, 1] * 10
    probabilities = np.stack([1 - positive, positive], axis=1)
    independent = evaluate_probabilities(probabilities, labels, LABEL_NAMES)
    clustered = evaluate_probabilities(probabilities, labels, LABEL_NAMES, np.arange(40) // 2)
    assert (clustered.pop("test_rows"), clustered.pop("test_clusters")) == (40, 20)
    low, high = clustered.pop("accuracy_ci95")
    assert low < independent["accuracy_ci95"][0] < independent["accuracy_ci95"][1] < high
    assert clustered == {name: value for name, value in independent.items() if name != "accuracy_ci95"}
    single = evaluate_probabilities(probabilities, labels, LABEL_NAMES, np.arange(40))
    assert single["accuracy_ci95"] == independent["accuracy_ci95"]
    assert single["test_clusters"] == 40


def test_small_examples_by_hand() -> None:
    assert compute_metrics(predictions=[1, 1, 0, 1], references=[1, 0, 0, 1], class_names=LABEL_NAMES)[
        "confusion_matrix"
    ] == [[1, 1], [0, 2]]
    assert compute_log_loss([[0.5, 0.5], [0.5, 0.5]], [0, 1]) == pytest.approx(0.6931, abs=1e-4)
