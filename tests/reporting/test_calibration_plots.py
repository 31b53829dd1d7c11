"""Figures of probabilities, and names of classes that the figures' font lacks."""

import io
import warnings

import numpy as np
import pytest

from sentiment.evaluation.abstention import evaluate_abstention
from sentiment.evaluation.calibration import compare_calibration
from sentiment.evaluation.metrics import evaluate_probabilities
from sentiment.reporting.calibration_plots import draw_calibration, draw_coverage, draw_curves
from sentiment.reporting.finetuning_report import draw_confusion
from sentiment.reporting.plots import draw_before_after, name_class

LABELS = np.array([0, 1, 2, 1] * 15)
PROBABILITIES = np.where(LABELS[:, np.newaxis] == np.arange(3), 0.8, 0.1)


@pytest.mark.parametrize(
    ("name", "shown"), [("good", "good"), ("très bien", "très bien"), ("плохо", "плохо"), ("好评", "class 2")]
)
def test_names_without_glyphs_are_numbers(name: str, shown: str) -> None:
    assert name_class(name, 2) == shown


OF_GOOD = evaluate_probabilities(np.array([[0.9, 0.1], [0.2, 0.8]]), [0, 1], ["差评", "好评"])


def test_figures_of_classes_in_chinese_are_drawn_without_warnings() -> None:
    names = ["差评", "中评", "好评"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = [
            draw_confusion({"test": np.eye(3, dtype=int).tolist()}, names),
            draw_curves(PROBABILITIES, LABELS.tolist(), names),
            draw_before_after({"run": dict.fromkeys(("before", "after"), OF_GOOD)}),
        ]
        for figure in figures:
            figure.savefig(io.BytesIO())
    assert [label.get_text() for label in figures[2].axes[0].get_yticklabels()][:4] == [
        *("accuracy", "precision", "recall", "F1")
    ]
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["class 0", "class 1", "class 2"]


def test_curves_of_two_classes_are_those_of_the_second() -> None:
    labels = LABELS % 2
    probabilities = np.where(labels[:, np.newaxis] == np.arange(2), 0.7, 0.3)
    figure = draw_curves(probabilities, labels.tolist(), ["negative", "positive"])
    (name,) = figure.legends[0].get_texts()
    assert name.get_text() == "positive: area under ROC 1.000, average precision 1.000"
    roc, precision_recall = figure.axes
    assert (len(roc.lines), len(precision_recall.lines)) == (2, 1)  # one is the diagonal


def test_calibration_and_coverage_show_what_was_evaluated() -> None:
    calibration = compare_calibration(PROBABILITIES, LABELS, 2.0)
    diagram, histogram = draw_calibration(calibration, PROBABILITIES.max(axis=1).tolist()).axes
    assert diagram.get_legend_handles_labels()[1] == ["perfect", "uncalibrated", "calibrated"]
    assert sum(patch.get_height() for patch in histogram.patches) == len(LABELS)
    abstention = evaluate_abstention([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 0.8, 0.95)
    (axes,) = draw_coverage(abstention).axes
    assert axes.get_legend_handles_labels()[1] == ["target: 95.0%", "score of at least 0.800"]
    (axes,) = draw_coverage(abstention | {"at_threshold": None}).axes
    assert axes.get_legend_handles_labels()[1] == ["target: 95.0%"]
