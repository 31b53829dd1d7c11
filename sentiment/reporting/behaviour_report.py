"""The report of behaviour tests: report.md, report.html and a figure, and a table for the terminal."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sentiment.reporting import plots
from sentiment.reporting.formatting import format_p_value, format_points, quote_text
from sentiment.reporting.rendering import write_report_files
from sentiment.reporting.summaries import JsonObject
from sentiment.reporting.terminal import render_table

FIGURE = "failure_rates.svg"
MODEL_STYLES = (*plots.RUN_STYLES, (plots.GREEN, "^"), (plots.PURPLE, "D"), (plots.GREY, "v"))
MOST_WEAKNESSES = 3  # named in a sentence
KIND_NAMES = {
    "minimum_functionality": "minimum functionality",
    "invariance": "invariance",
    "must_not_fall": "must not fall",
    "must_rise": "must rise",
}


def write_behaviour_report(folder: Path, result: JsonObject) -> None:
    """Write report.md, report.html and the figure, from the content of behaviour.json."""
    capabilities = result["capabilities"]
    context = {
        "result": result,
        "sentences": describe_result(result),
        "rates": build_rates(result),
        "differences": build_differences(result) if is_pair(result) else None,
        "tested": [
            [found["name"], ", ".join(KIND_NAMES[kind] for kind in found["kinds"]), found["description"] or "-"]
            for found in capabilities
        ],
        "failures": {found["name"]: [*map(build_example, found["examples"])] for found in capabilities},
    }
    write_report_files(folder, "behaviour.j2", context, {FIGURE: draw_failure_rates(result)})


def render_behaviour(result: JsonObject) -> str:
    """What differs beyond chance and fails most, the failure rates by capability, and warnings."""
    rows = [["failed cases (95% interval)", "cases", *(model["name"] for model in result["models"])]]
    rows += build_rates(result)
    if is_pair(result):
        added = [
            ["B - A, points (95% interval)", "Holm p"],
            *([f"{by} ({low})", p] for _, by, low, p in build_differences(result)),
        ]
        rows = [row + cells for row, cells in zip(rows, added, strict=True)]
    return "\n".join([*describe_result(result), *list_warnings(result), "", render_table(rows)])


def list_warnings(result: JsonObject) -> list[str]:
    """The warnings as lines of the terminal."""
    return [f"Warning: {warning}." for warning in result["warnings"]]


def is_pair(result: JsonObject) -> bool:
    """Whether two models are compared."""
    return len(result["models"]) == 2


def build_rates(result: JsonObject) -> list[list[str]]:
    """Capability, cases, and the failure rate of each model with its interval."""
    rows = []
    for summary in result["capabilities"]:
        ends = [[100 * end for end in found["failure_rate_ci95"]] for found in summary["models"]]
        rates = [f"{found['failure_rate']:.1%}" for found in summary["models"]]
        cells = [f"{rate} ({low:.1f} to {high:.1f})" for rate, (low, high) in zip(rates, ends, strict=True)]
        rows.append([summary["name"], f"{summary['cases']:,}", *cells])
    return rows


def build_differences(result: JsonObject) -> list[list[str]]:
    """Capability, failure rate of B minus that of A in points, its interval, and Holm's p-value."""
    rows = []
    for summary in result["capabilities"]:
        found = summary["difference"]
        points = ("+" if found["difference"] > 0 else "") + format_points(found["difference"])[0]
        interval = " to ".join(format_points(*found["difference_ci95"]))
        rows.append([summary["name"], points, interval, format_p_value(found["holm_p"])])
    return rows


def describe_result(result: JsonObject) -> list[str]:
    """What differs beyond chance between two models, where each fails most, and the temperatures, in sentences."""
    models = result["models"]
    sentences = [describe_differences(result)] if is_pair(result) else []
    sentences += [f"{model['name']} {describe_weaknesses(result, place)}." for place, model in enumerate(models)]
    used = ", ".join(f"{model['temperature']:.2f} ({model['name']})" for model in models)
    return [*sentences, f"Probabilities are calibrated, at temperature {used}; labels do not depend on it."]


def describe_weaknesses(result: JsonObject, place: int) -> str:
    """In which capabilities a model fails most often, in words."""
    rates = {found["name"]: found["models"][place]["failure_rate"] for found in result["capabilities"]}
    worst = [name for name in sorted(rates, key=lambda name: -rates[name]) if rates[name] > 0][:MOST_WEAKNESSES]
    named = ", ".join(f"{name} ({rates[name]:.1%})" for name in worst)
    return f"fails most often in {named}" if worst else "fails no case"


def describe_differences(result: JsonObject) -> str:
    """In which capabilities the failure rates of two models differ beyond chance, in a sentence."""
    capabilities, found = result["capabilities"], []
    for key, model in zip("ab", result["models"], strict=True):
        better = [each["name"] for each in capabilities if each["difference"]["better"] == key]
        found += [f"{model['name']} fails less often in {', '.join(better)}"] if better else []
    outcome = "; ".join(found) or "no difference is shown"
    looked_at = f"Of {len(capabilities)} capabilities that are looked at, with Holm's correction for their number"
    return f"{looked_at}: {outcome} (McNemar's exact test)."


def build_example(case: JsonObject) -> list[str]:
    """A row for a failed case: its text and original, what is expected, and the answer of each model."""
    original = f" (original: {quote_text(case['original'])})" if case["original"] else ""
    answers = [describe_answer(case, answer) for answer in case["answers"]]
    return [quote_text(case["text"]) + original, describe_expectation(case), *answers]


def describe_expectation(case: JsonObject) -> str:
    """What is expected of the answer to a case."""
    if case["kind"] == "invariance":
        return "label as of the original"
    if case["kind"] == "minimum_functionality":
        return str(case["expected"])
    words = "must not fall by more than" if case["kind"] == "must_not_fall" else "must rise by more than"
    return f"P({case['expected']}) {words} {case['tolerance']:g}"


def describe_answer(case: JsonObject, answer: JsonObject) -> str:
    """A model's answer to a case, and whether it fails."""
    outcome = "✗" if answer["failed"] else "✓"
    if case["kind"] == "minimum_functionality":
        return f"{outcome} {answer['label']}, P({case['expected']}) {answer['probability']:.1%}"
    about = answer["original_label"] if case["kind"] == "invariance" else case["expected"]
    labels = f"{answer['original_label']} → {answer['label']}, " if case["kind"] == "invariance" else ""
    return f"{outcome} {labels}P({about}) {answer['original_probability']:.1%} → {answer['probability']:.1%}"


def draw_failure_rates(result: JsonObject) -> Figure:
    """The failure rate of each model by capability as points with their 95% intervals."""
    capabilities, models = result["capabilities"], result["models"]
    title = "Failure rate by capability"
    figure = plots.new_panels([title], 7.2, 1.3 + (0.18 + 0.11 * len(models)) * len(capabilities))
    axes = figure.axes[0]
    for number, (model, (colour, marker)) in enumerate(zip(models, MODEL_STYLES, strict=False)):
        shift = 0.6 * ((number + 0.5) / len(models) - 0.5)
        places = [place + shift for place in range(len(capabilities))]
        found = [summary["models"][number] for summary in capabilities]
        lows, highs = zip(*(each["failure_rate_ci95"] for each in found), strict=True)
        axes.hlines(places, lows, highs, color=colour, linewidth=2.4, capstyle="round", alpha=0.55)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6, "linestyle": "none"}
        axes.plot([each["failure_rate"] for each in found], places, label=model["name"], **style)
    axes.set_yticks(range(len(capabilities)), [summary["name"] for summary in capabilities])
    axes.set_ylim(len(capabilities) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(-0.01, max(0.1, *axes.get_xlim()))
    plots.use_percent(axes.xaxis, "failed cases (%); lines: 95% interval")
    plots.add_legend(axes)
    return figure
