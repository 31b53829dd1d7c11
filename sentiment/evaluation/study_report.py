"""The story of a study: report.md, report.html and the pictures, and the same in short for a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import t as student_t

from sentiment.evaluation.rendering import write_pages
from sentiment.evaluation.study import CONFIDENCE, EFFECTS, judge
from sentiment.evaluation.study_plots import plot_accuracy, plot_cost, plot_effects
from sentiment.evaluation.terminal import render_table

PICTURES = ("accuracy.png", "effects.png", "cost.png")
# Options of fine-tuning that a reader of a study asks for; verdict.json has them all.
SHOWN_OPTIONS = (
    "model", "dataset", "split", "split_seed", "max_rows", "cleaning", "max_length", "lr", "head_lr", "batch_size",
    "num_train_epochs", "early_stopping_patience", "warmup_ratio", "dropout", "token_dropout", "weight_decay",
)  # fmt: skip


def write_study_report(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write report.md, report.html and the pictures into the folder of a study; `verdict` is its verdict.json."""
    plot_accuracy(verdict["accuracy"], folder / "accuracy.png")
    plot_cost(verdict["accuracy"], folder / "cost.png")
    if verdict["effects"]:
        plot_effects(verdict["effects"], folder / "effects.png")
    seeds, finetuning = len(verdict["seeds"]), verdict["options"]["finetuning"]
    story = {
        "verdict": verdict,
        "effects": group_effects(verdict),
        "seed_names": [f"seed {seed}" for seed in verdict["seeds"]],
        "quantile": float(student_t.ppf((1 + CONFIDENCE) / 2, seeds - 1)) if seeds > 1 else None,
        "by_kind": {one["kind"]: one for one in verdict["adaptations"]},
        "options": {name: finetuning[name] for name in SHOWN_OPTIONS if finetuning.get(name) is not None},
    }
    write_pages(folder, "study.j2", story)


def group_effects(verdict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each effect with its name, its two arms, and what it was at each budget, with the verdict on that."""
    names = dict.fromkeys(effect["effect"] for effect in verdict["effects"])
    return [
        {
            "name": name,
            "arms": EFFECTS[name],
            "sentence": sentence,
            "budgets": [
                effect | {"verdict": judge(effect)} for effect in verdict["effects"] if effect["effect"] == name
            ],
        }
        for name, sentence in zip(names, verdict["effects_in_words"], strict=True)
    ]


def render_study(verdict: Mapping[str, Any]) -> str:
    """The verdict and the effects in sentences, and the mean test accuracy of each arm at each budget."""
    rows = [["labels", *verdict["arms"]]]
    for budget in verdict["budgets"]:
        found = {cell["arm"]: cell["accuracy"] for cell in verdict["accuracy"] if cell["budget"] == budget}
        rows.append([f"{budget:,}", *(f"{found[arm]:.4f}" for arm in verdict["arms"])])
    return "\n".join([verdict["sentence"], *verdict["effects_in_words"], "", render_table(rows)])
