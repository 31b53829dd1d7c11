import re
from typing import Any

import pytest

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.metrics import compute_metrics
from sentiment.reporting.summaries import (
    describe_absent_classes,
    describe_baseline,
    describe_unanswered_classes,
    list_class_counts,
    list_confused_pairs,
)
from sentiment.reporting.terminal import (
    render_adaptation,
    render_audit,
    render_before_after,
    render_comparison,
    render_metrics,
)

LABELS, PREDICTED = [1, 0, 0, 1], [1, 1, 0, 1]


@pytest.fixture
def metrics() -> dict[str, Any]:
    before = {**compute_metrics([1, 1, 1, 1], LABELS, LABEL_NAMES), "loss": 0.7}
    after = {**compute_metrics(PREDICTED, LABELS, LABEL_NAMES), "loss": 0.3}
    return {"test": {"before": before, "after": after}}


def test_before_after_table(metrics: dict[str, Any]) -> None:
    lines = render_before_after(metrics).splitlines()
    assert [line.split()[0] for line in lines] == [
        "test", "accuracy", "precision", "recall", "F1", "macro", "loss", "accuracy", "always",
    ]  # fmt: skip
    assert lines[1].split() == ["accuracy", "0.5000", "0.7500", "+0.2500"]
    assert lines[6].split() == ["loss", "0.7000", "0.3000", "-0.4000"]
    assert len({len(line) for line in lines[:7]}) == 1
    del metrics["test"]["before"]
    assert render_before_after(metrics).splitlines()[1].split() == ["accuracy", "-", "0.7500", "-"]


def test_a_model_with_one_answer_is_named(metrics: dict[str, Any]) -> None:
    baseline = "always answering 'negative' would reach 50.0% accuracy"
    assert render_before_after(metrics).endswith(f"{baseline}: the model is not shown to be better than that")
    metrics["test"]["after"] = metrics["test"]["before"]
    assert render_before_after(metrics).endswith(
        f"{baseline}; the model has collapsed, 100.0% of its answers are 'positive': train with more epochs, smaller "
        "batches or a higher learning rate"
    )


def test_clusters_are_named_only_if_there_are_fewer_than_rows(metrics: dict[str, Any]) -> None:
    words = "(4 test rows in 3 clusters of texts that contain each other)"
    after = metrics["test"]["after"]
    assert "cluster" not in render_before_after(metrics) + render_metrics(after)
    after |= {"test_rows": 4, "test_clusters": 3}
    assert words in render_before_after(metrics)
    assert words in render_metrics(after)
    after |= {"test_clusters": 4}
    assert "cluster" not in render_before_after(metrics) + render_metrics(after)


def test_metrics_of_a_checkpoint(metrics: dict[str, Any]) -> None:
    lines = [line.split() for line in render_metrics(metrics["test"]["after"]).splitlines()]
    assert ["accuracy", "0.7500"] in lines
    assert ["negative", "1.0000", "0.5000", "0.6667", "2"] in lines  # precision, recall, F1, rows
    assert lines[-2:] == [["negative", "1", "1"], ["positive", "0", "2"]]  # rows true, columns predicted


def test_audit_table() -> None:
    part = {
        "rows": 10, "labels": {"negative": 3, "positive": 6, "unlabelled": 1}, "empty": 0, "duplicates": 2,
        "left_out_by_mapping": 0, "both_labels": 0,
        "tokens": {"mean": 5.25, "median": 5.0, "p95": 9.0, "max": 12}, "share_cut": 0.015,
        "share_unknown": 0.25, "share_cut_by_class": {"negative": 0.5, "positive": 0.0},
    }  # fmt: skip
    unlabelled = part | {"labels": {"negative": 0, "positive": 0, "unlabelled": 10}}
    audit = {
        "max_seq_length": 128,
        "splits": {"train": part, "test": unlabelled},
        "across": {"train & test": 4},
        "test_contained_in_train": {"rows": 5, "share": 0.5},
        "dropped": {"in_several_splits": 7},
    }
    table = render_audit(audit, "reviews")
    lines = [line.split() for line in table.splitlines()]
    assert ["reviews", "train", "test"] in lines
    assert ["unknown", "tokens", "25.00%", "25.00%"] in lines
    assert ["truncated,", "negative", "50.00%", "50.00%"] in lines
    assert ["unlabelled", "1", "10"] in lines
    assert ["positive", "6", "(66.7%)", "0"] in lines
    assert ["truncated", "to", "128", "tokens", "1.50%", "1.50%"] in lines
    assert "test rows whose text is also in train: 4" in table
    assert "test rows contained in a training text: 5 (50.0%)" in table
    assert "dropped rows, phrase of sentences in different splits: 7" in table


def test_comparison_lines() -> None:
    score = {"a": 0.9, "b": 0.92, "difference": 0.02, "difference_ci95": [-0.01, 0.05]}
    loss = {"a": 0.3, "b": 0.25, "difference": -0.05}
    costs = {"train_seconds": 518.2, "adaptation_seconds": 0.0, "seconds": 518.2}
    comparison = {
        "sentence": "Cannot tell.", "metric": "accuracy", "test_rows": 1994, "fixes": 50, "regressions": 10,
        "mcnemar_p": 0.0004,
        "warnings": ["Other rows."], "runs": {"a": {"name": "e2e"}, "b": {"name": "finetune"}},
        "metrics": dict.fromkeys(("accuracy", "precision", "recall", "f1", "macro_f1"), score) | {"loss": loss},
        "cost": {"a": costs, "b": costs, "ratio": 1.0}, "differences": {"options": {"learning_rate": [1, 2]}},
    }  # fmt: skip
    lines = render_comparison(comparison).splitlines()
    assert lines[0] == "Cannot tell."
    assert "On 1,994 test rows, finetune fixes 50 of the errors of e2e and makes 10 that e2e does not make" in lines[1]
    assert "p under 0.001" in lines[1]
    assert lines[2:4] == ["Warning: Other rows.", "Options that differ: learning_rate."]
    assert ["accuracy", "0.9000", "0.9200", "+0.0200", "-0.0100", "to", "+0.0500"] in [line.split() for line in lines]
    assert ["loss", "0.3000", "0.2500", "-0.0500", "-"] in [line.split() for line in lines]
    assert lines[-1].split() == ["training", "(s)", "518", "518", "1.00x"]
    comparison["cost"]["b"] = {"train_seconds": 400.0, "adaptation_seconds": 1000.0, "seconds": 1400.0}
    assert render_comparison(comparison).splitlines()[-1].split()[:5] == ["with", "adaptation", "(s)", "518", "1,400"]


ADAPTATION_METRICS: dict[str, Any] = {
    "objective": {
        "metrics": {"loss": "loss", "perplexity": "perplexity", "accuracy": "accuracy of masked tokens"},
        "formats": {"perplexity": ",.1f"},
        "counted": "masked_tokens",
    },
    "validation": {
        "before": {"loss": 10.8, "perplexity": 49020.8, "accuracy": 0.0001, "masked_tokens": 41210},
        "after": {"loss": 4.2, "perplexity": 66.69, "accuracy": 0.3111, "masked_tokens": 41210},
    },
}


def test_adaptation_table() -> None:
    title, *rows, tokens = [line.split() for line in render_adaptation(ADAPTATION_METRICS).splitlines()]
    assert title == ["validation", "before", "after", "change"]
    assert [row[-3:] for row in rows] == [
        ["10.8000", "4.2000", "-6.6000"],
        ["49,020.8", "66.7", "-48,954.1"],
        ["0.0001", "0.3111", "+0.3110"],
    ]
    assert tokens == ["masked", "tokens:", "41,210"]


def test_an_adaptation_without_metrics_from_before() -> None:
    metrics = ADAPTATION_METRICS | {"validation": {"after": ADAPTATION_METRICS["validation"]["after"]}}
    assert render_adaptation(metrics).splitlines()[1].split()[-3:] == ["-", "4.2000", "-"]


def test_an_adaptation_of_an_earlier_version_that_did_not_record_its_objective() -> None:
    table = render_adaptation({"validation": ADAPTATION_METRICS["validation"]})
    assert table.splitlines()[1].split() == ["loss", "10.8000", "4.2000", "-6.6000"]


def test_a_model_that_answers_little_else_than_one_class_is_named() -> None:
    labels = [0] * 930 + [1] * 70
    better = compute_metrics([0] * 930 + [1] * 70, labels, LABEL_NAMES)
    assert describe_baseline(better) == "always answering 'negative' would reach 93.0% accuracy"
    same = compute_metrics([0] * 900 + [1] * 65 + [0] * 35, labels, LABEL_NAMES)
    assert describe_baseline(same).endswith("93.0% accuracy: the model is not shown to be better than that")
    collapsed = compute_metrics([0] * 995 + [1] * 5, labels, LABEL_NAMES)
    assert "the model has collapsed, 99.5% of its answers are 'negative': train with" in describe_baseline(collapsed)


def test_tables_of_many_classes_show_the_largest() -> None:
    counts = {f"class {number}": number for number in range(1, 78)}
    shown = list_class_counts({"train": {"labels": counts | {"unlabelled": 4}}, "test": {"labels": {"unlabelled": 0}}})
    assert len(shown) == 13
    assert shown["class 77"] == [77, 0]
    assert shown["65 other classes"] == [sum(range(1, 66)), 0]
    assert list_class_counts({"train": {"labels": {"b": 1, "a": 2, "unlabelled": 0}}}) == {"b": [1], "a": [2]}


def test_confused_pairs_are_sorted_by_rows() -> None:
    metrics = compute_metrics([0, 1, 2, 2, 1, 1], [0, 0, 1, 2, 2, 2], ["bad", "fair", "good"])
    assert list_confused_pairs(metrics) == [
        ("good", "fair", 2, 2 / 3), ("bad", "fair", 1, 1 / 2), ("fair", "good", 1, 1.0),
    ]  # fmt: skip


def test_classes_that_are_answered_but_not_true_are_named() -> None:
    names = ["bad", "fair", "good"]
    (sentence,) = describe_absent_classes(compute_metrics([0, 1, 2, 0], [0, 2, 2, 0], names))
    assert sentence.startswith("no row is of 'fair', which the model answers")
    assert describe_absent_classes(compute_metrics([0, 2, 2, 0], [0, 2, 2, 0], names)) == []


def test_many_classes_are_shown_by_their_confused_pairs() -> None:
    names = [f"class {number}" for number in range(30)]
    true = [number for number in range(30) for _ in range(3)]
    shown = render_metrics(compute_metrics([1, *true[1:]], true, names) | {"loss": 0.1})
    assert "predicted class 29" not in shown
    assert re.search(r"class 0 +class 1 +1", shown)


def test_scores_of_a_class_say_which() -> None:
    metrics = compute_metrics([0, 1, 1], [0, 1, 0], ["ham", "spam"]) | {"loss": 0.1}
    assert "F1 of spam" in render_metrics(metrics)
    assert "F1 of" not in render_metrics(compute_metrics([0, 1, 1], [0, 1, 0], LABEL_NAMES) | {"loss": 0.1})


def test_classes_that_are_never_answered_are_named() -> None:
    names = ["bad", "ok", "good"]
    assert describe_unanswered_classes(compute_metrics([0, 1, 0, 1], [0, 1, 2, 2], names)) == [
        "the model never answers 'good' (2 rows): train longer, or with --class_weights balanced"
    ]
    assert describe_unanswered_classes(compute_metrics([0, 1, 2, 1], [0, 1, 2, 2], names)) == []
    assert describe_unanswered_classes(compute_metrics([0, 1, 0, 1], [0, 1, 0, 0], names)) == []  # no such row


def test_a_temperature_that_makes_it_worse_is_said() -> None:
    metrics = {
        "test": dict.fromkeys(
            ("before", "after"), compute_metrics([0, 1, 0, 1], [0, 1, 1, 1], ["a", "b"]) | {"loss": 1.0}
        )
    }
    for ece, is_said in ((0.2, True), (0.04, False)):
        calibration = {"before": {"ece": 0.1}, "after": {"ece": ece, "ece_if_calibrated": 0.05}, "temperature": 3.0}
        assert ("makes it worse here" in render_before_after(metrics | {"calibration": calibration})) == is_said
