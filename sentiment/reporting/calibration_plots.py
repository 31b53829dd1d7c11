"""Figures of a classifier's probabilities: calibration, abstention, ROC and precision-recall curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from sentiment.reporting import plots
from sentiment.reporting.summaries import JsonObject

MOST_CURVES = 5  # classes of a figure with one curve each
COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE, plots.GREY)


def draw_calibration(calibration: JsonObject, confidences: Sequence[float]) -> Figure:
    """The reliability diagram before and after scaling, and a histogram of the calibrated confidences."""
    figure = plots.new_panels(["Accuracy by confidence", "Confidences"], 7.2, 3.6, columns=2, pad=10)
    diagram, histogram = figure.axes
    lowest = min(point["confidence"] for moment in ("before", "after") for point in calibration[moment]["bins"])
    diagram.plot([lowest, 1], [lowest, 1], color=plots.GREY, linestyle=(0, (4, 3)), linewidth=1.2, label="perfect")
    styles = {"before": (plots.GREY, "o", "uncalibrated"), "after": (plots.BLUE, "s", "calibrated")}
    for moment, (colour, marker, label) in styles.items():
        bins = calibration[moment]["bins"]
        places, scores = ([point[key] for point in bins] for key in ("confidence", "accuracy"))
        diagram.plot(places, scores, color=colour, marker=marker, markersize=4.5, linewidth=1.6, label=label)
    plots.use_percent(diagram.xaxis, "mean confidence of a bin (%)")
    plots.use_percent(diagram.yaxis, "accuracy (%)")
    histogram.hist(confidences, bins=20, range=(min(confidences), 1), color=plots.BLUE)
    plots.use_percent(histogram.xaxis, "confidence, calibrated (%)")
    histogram.set_ylabel("test texts")
    handles, names = diagram.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3, **plots.LEGEND_STYLE)
    return figure


def draw_coverage(abstention: JsonObject) -> Figure:
    """Accuracy of the most confident answers by their share of the texts, and the threshold for the target accuracy."""
    figure, axes = plots.new_figure("Accuracy of the answers by coverage")
    coverages, accuracies = ([point[key] for point in abstention["curve"]] for key in ("coverage", "accuracy"))
    axes.plot(coverages, accuracies, color=plots.BLUE, linewidth=2)
    target = abstention["target_accuracy"]
    axes.axhline(target, color=plots.GREY, linestyle=(0, (4, 3)), linewidth=1.2, label=f"target: {target:.1%}")
    if (found := abstention["at_threshold"]) and "accuracy" in found:
        label = f"score of at least {abstention['threshold']:.3f}"
        axes.plot([found["coverage"]], [found["accuracy"]], "D", color=plots.ORANGE, markersize=8, label=label)
        axes.vlines([found["coverage"]], *found["accuracy_ci95"], color=plots.ORANGE, linewidth=2.4, alpha=0.5)
    axes.set_xlim(0, 1.02)
    plots.ensure_y_range(axes, 0.05)
    plots.use_percent(axes.xaxis, "coverage: share of the texts that are answered (%)")
    plots.use_percent(axes.yaxis, "accuracy (%)")
    plots.add_legend(axes)
    return figure


def draw_curves(probabilities: np.ndarray, labels: Sequence[int], class_names: Sequence[str]) -> Figure:
    """ROC and precision-recall curves, of the second of two classes or of each of several against the others.

    Of many classes, those with the most rows have curves. `probabilities` has shape (rows, classes).
    """
    figure = plots.new_panels(["ROC", "Precision and recall"], 7.2, 3.9, columns=2, pad=10)
    roc, precision_recall = figure.axes
    true = np.asarray(labels)
    support = np.bincount(true, minlength=len(class_names))
    frequent = np.argsort(-support, kind="stable")[:MOST_CURVES]
    shown = [1] if len(class_names) == 2 else [number for number in sorted(frequent.tolist()) if support[number]]
    for number, colour in zip(shown, COLOURS, strict=False):
        is_class, scores = true == number, probabilities[:, number]
        rates, recalls = roc_curve(is_class, scores)[:2]
        name = plots.name_class(class_names[number], number)
        area, average = roc_auc_score(is_class, scores), average_precision_score(is_class, scores)
        label = f"{name}: area under ROC {area:.3f}, average precision {average:.3f}"
        roc.plot(rates, recalls, color=colour, linewidth=1.8, label=label)
        precisions, recalls, _ = precision_recall_curve(is_class, scores)
        precision_recall.plot(recalls, precisions, color=colour, linewidth=1.8)
    roc.plot([0, 1], [0, 1], color=plots.GREY, linestyle=(0, (4, 3)), linewidth=1)
    plots.use_percent(roc.xaxis, "false positives of the other texts (%)")
    plots.use_percent(roc.yaxis, "recall (%)")
    plots.use_percent(precision_recall.xaxis, "recall (%)")
    plots.use_percent(precision_recall.yaxis, "precision (%)")
    figure.set_figheight(figure.get_figheight() + plots.LEGEND_ROW * (len(shown) + 1) / 72)
    figure.legend(*roc.get_legend_handles_labels(), loc="outside lower left", **plots.LEGEND_STYLE)
    return figure
