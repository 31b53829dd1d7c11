"""The report of a search: what its sentences say, and what its figures show."""

from pathlib import Path
from typing import Any

import pytest

from sentiment.reporting.search_report import (
    FIGURES,
    describe_search,
    draw_history,
    draw_importances,
    draw_parallel,
    format_space,
    format_value,
    locate,
    render_search,
    write_search_report,
)

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "batch_size": {"choices": [8, 16, 32]},
    "adaptation.mlm_probability": {"low": 0.1, "high": 0.5, "step": 0.1},
}


def make_trial(index: int, score: float | None, state: str = "complete", **changes: Any) -> dict[str, Any]:
    options = {"learning_rate": 1e-4, "batch_size": 16, "adaptation.mlm_probability": 0.3}
    known = {"index": index, "state": state, "score": score, "loss": 0.5, "collapsed": [None], "seconds": 60.0}
    return known | {"options": options} | changes


def make_confirmation(difference: float, reach: float, drop: float = 0.02) -> dict[str, Any]:
    best = [0.78 + difference, 0.80 + difference]
    return {
        "seeds": [11, 12], "best": best, "defaults": [0.78, 0.80], "best_mean": sum(best) / 2, "defaults_mean": 0.79,
        "difference": difference, "ci95": [difference - reach, difference + reach], "per_seed": [difference] * 2,
        "drop": drop, "failed": 0,
    }  # fmt: skip


def make_summary(confirmation: Any = None) -> dict[str, Any]:
    trials = [
        make_trial(1, 0.81),
        make_trial(2, 0.75, "pruned", progress=0.4),
        make_trial(3, None, "failed", reason="the loss is <b>nan</b>"),
        make_trial(4, 0.83, options={"learning_rate": 1e-3, "batch_size": 8, "adaptation.mlm_probability": 0.5}),
    ]
    summary: dict[str, Any] = {
        "metric": "accuracy",
        "seeds": [1],
        "rows": {"train": 300, "validation": 40},
        "best": trials[3],
        "defaults": make_trial(0, 0.8) | {"options": {"learning_rate": 5e-5, "batch_size": None}},
        "difference": 0.03,
        "shares_adaptation": True,
        "confirmation": confirmation,
        "importances": {"learning_rate": 0.7, "batch_size": 0.2, "adaptation.mlm_probability": 0.1},
        "counts": {"complete": 2, "pruned": 1, "failed": 1},
        "seconds": {"total": 300.0, "finetuning": 200.0, "adaptation": 50.0, "stopped": 30.0},
        "space": SPACE,
        "trials": trials,
        "options": {
            "finetuning": {"model_name_or_path": "minilm", "dataset_name": "/data/reviews.csv"},
            "adaptation": {"dataset_name": ["imdb"]},
            "search": {"seed": 42, "startup_trials": 8, "prune": True},
        },
        "jobs": 1,
        "hardware": {"name": "Chip", "cores": 2, "threads": 1},
        "precision": "fp32",
        "commands": ["python train_mlm.py outputs/search/best_mlm.yaml"],
    }
    return {"sentences": describe_search(summary)} | summary


def test_without_confirmation_the_score_is_called_too_high() -> None:
    first, second = describe_search(make_summary())
    assert first == (
        "The best of 4 trials, trial 4, has a validation accuracy of 0.8300; the defaults have 0.8000 (+3.0 points)."
    )
    assert second.startswith("The best score of many trials is too high, since it was selected: pass --confirm_seeds")


@pytest.mark.parametrize(
    ("difference", "reach", "drop", "expected"),
    [
        (
            0.02,
            0.01,
            0.02,
            "The best options are better than the defaults: best minus defaults is 2.0 points (95% inte",
        ),
        (0.02, 0.03, 0.02, "The best options are not shown to be better than the defaults: best minus defaults is 2.0"),
        (-0.02, 0.01, 0.02, "The best options are worse than the defaults: best minus defaults is -2.0 points"),
        (0.0, 0.01, -0.01, "The best options are not shown to be better than the defaults: best minus defaults is 0.0"),
    ],
)
def test_the_confirmation_in_words(difference: float, reach: float, drop: float, expected: str) -> None:
    _, fall, gain = describe_search(make_summary(make_confirmation(difference, reach, drop)))
    assert gain.startswith(expected)
    assert gain.endswith("Keep the defaults.") == (difference < 0)
    assert ("the selected score was 2.0 points too high" in fall) == (drop > 0)
    assert ("it did not fall" in fall) == (drop < 0)


def test_report_files(tmp_path: Path) -> None:
    write_search_report(tmp_path, make_summary(make_confirmation(0.02, 0.01)))
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "report.html", *FIGURES}
    text, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.md", "report.html"))
    assert "the loss is &lt;b&gt;nan&lt;/b&gt;" in page
    assert "So few trials (below 20) tell little about it." in text
    assert "and all seeds share one adaptation" in text
    assert "| 2 | pruned | 0.7500 | 40.0% | 1 min 0 s | below the median of earlier trials |" in text
    assert "| batch\\_size | - | 8 | 8, 16, 32 | 20.0% |" in text
    (tmp_path / "importance.svg").unlink()
    write_search_report(tmp_path, make_summary() | {"importances": None})
    assert not (tmp_path / "importance.svg").exists()


def test_terminal() -> None:
    lines = render_search(make_summary()).splitlines()
    assert "Trials: 2 complete, 1 pruned, 1 failed." in lines
    assert [line.split() for line in lines if line.startswith("learning_rate")] == [["learning_rate", "5e-05", "0.001"]]
    assert lines[-1] == "python train_mlm.py outputs/search/best_mlm.yaml"


def test_history_shows_each_kind_of_trial() -> None:
    (axes,) = draw_history(make_summary()["trials"], 0.8).axes
    lines = {str(line.get_label()): line for line in axes.lines}
    assert list(lines["complete"].get_xdata()) == [1, 4]
    assert list(lines["best so far"].get_ydata()) == [0.81, 0.83, 0.83]
    assert list(lines["pruned"].get_ydata()) == [0.75]
    assert list(lines["failed"].get_xdata()) == [3]
    assert list(lines["defaults"].get_ydata()) == [0.8, 0.8]
    assert axes.get_ylim()[0] <= 0.75


def test_parallel_coordinates() -> None:
    (axes,) = draw_parallel(make_summary()["trials"], SPACE, best=4).axes
    drawn = {len(line.get_ydata()): line for line in axes.lines}  # those of trials have four points
    best = next(line for line in axes.lines if str(line.get_label()).startswith("trial 4"))
    assert list(best.get_ydata()) == pytest.approx([1.0, 0.0, 1.0, 1.0])
    assert set(drawn) == {2, 4}
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["learning_rate", "batch_size", "adaptation\nmlm_probability", "accuracy"]


def test_one_trial_and_one_choice_can_be_drawn(tmp_path: Path) -> None:
    trials = [make_trial(1, 0.8, options={"batch_size": 8})]
    draw_parallel(trials, {"batch_size": {"choices": [8]}}, best=1).savefig(tmp_path / "one.svg")
    draw_history(trials, 0.8).savefig(tmp_path / "history.svg")


def test_places_and_names_of_values() -> None:
    assert [locate(value, SPACE["learning_rate"]) for value in (1e-5, 1e-4, 1e-3)] == pytest.approx([0, 0.5, 1])
    assert [locate(value, SPACE["batch_size"]) for value in (8, 16, 32)] == [0, 0.5, 1]
    assert locate(None, {"choices": [None, 0.1]}) == 0
    assert [format_value(value) for value in (None, 0.00012346, 16, ["a", "b"], True)] == [
        "-", "0.0001235", "16", "a, b", "True",
    ]  # fmt: skip
    assert [*map(format_space, SPACE.values())] == ["1e-05 to 0.001 (log)", "8, 16, 32", "0.1 to 0.5, step 0.1"]


def test_importances_are_sorted() -> None:
    (axes,) = draw_importances({"a": 0.2, "b": 0.7, "c": 0.1}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "b"]
