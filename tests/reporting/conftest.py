"""A synthetic study for its report and figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sentiment.evaluation.study_effects import summarize_study
from sentiment.reporting.verdicts import describe_study

ALL_ARMS = ("e2e", "e2e+decay", "mlm", "mlm+decay", "placebo+decay")
ADAPTATION_SECONDS = {"e2e": 0.0, "e2e+decay": 0.0, "mlm": 1100.0, "mlm+decay": 1100.0, "placebo+decay": 300.0}


@pytest.fixture
def svg_size() -> Callable[[Path], tuple[float, float]]:
    """`svg_size(path)`: width and height of an SVG file in points."""

    def read(path: Path) -> tuple[float, float]:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        return float(root.attrib["width"].removesuffix("pt")), float(root.attrib["height"].removesuffix("pt"))

    return read


@pytest.fixture
def build_verdict() -> Callable[..., dict[str, Any]]:
    """`build_verdict(arms, budgets, seeds, gain)` gives a verdict.json; `gain` is that of adaptation at 100 labels.

    With `cluster_size`, as many consecutive test rows are one cluster.
    """

    def build(
        arms: Sequence[str] = ALL_ARMS,
        budgets: Sequence[int] = (100, 1000, 8001),
        seeds: Sequence[int] = (1, 2, 3),
        gain: float = 0.1,
        cluster_size: int = 1,
        **options: Any,
    ) -> dict[str, Any]:
        generator, runs, correct = np.random.default_rng(3), [], []
        for seed in seeds:
            for budget in budgets:
                for arm in arms:
                    share = 0.9 - 0.2 * (100 / budget) ** 0.5 + gain * (100 / budget) * arm.startswith("mlm")
                    answers = generator.permuted(np.arange(400) < 400 * share)
                    seconds = {"train_seconds": 20 + 0.03 * budget, "adaptation_seconds": ADAPTATION_SECONDS[arm]}
                    total = sum(seconds.values())
                    runs.append(
                        {"arm": arm, "budget": budget, "seed": seed, "accuracy": float(answers.mean())}
                        | seconds
                        | {"total_seconds": total, "amortized_seconds": total - 0.9 * seconds["adaptation_seconds"]}
                    )
                    correct.append(answers)
        summary = summarize_study(runs, correct, np.arange(400) // cluster_size)
        return describe_study(summary) | summary | describe_setup(arms, budgets, seeds, options)

    return build


def describe_setup(arms: Sequence[str], budgets: Sequence[int], seeds: Sequence[int], options: Any) -> dict[str, Any]:
    study = {
        "output_dir": "outputs/study", "seeds": list(seeds), "budgets": [*map(str, budgets[:-1]), "all"],
        "arms": list(arms), "layer_decay": 0.9, "adapt_each_seed": False, "jobs": 1, "keep_models": False,
    } | options  # fmt: skip
    finetuning = {
        "model_name_or_path": "minilm", "dataset_name": "<b>|reviews|</b>.csv", "split": "stratified", "split_seed": 42,
        "learning_rate": 1e-4,
        "head_lr": None, "batch_size": 32, "num_train_epochs": 6,
    }  # fmt: skip
    adaptation = {
        "rows": 8000, "dropped_in_test": 3, "steps": 2280, "kept_step": 1170, "tokens": 7.1e6, "train_seconds": 1100.0,
        "loss_before": 10.8, "loss_after": 4.12, "num_finetunings": 10, "options": {"learning_rate": 3e-4},
        "reads_labels": False,
    }  # fmt: skip
    kinds = {arm.partition("+")[0]: True for arm in arms if not arm.startswith("e2e")}
    return {
        "validation_rows": 1000,
        "test_rows": 400,
        "fingerprints": {"validation": "a1b2c3d4e5f60718", "test": "0f1e2d3c4b5a6978"},
        "options": {"study": study, "finetuning": finetuning, "budget_options": {"100": {"num_train_epochs": 30}}}
        | {"arms": {arm: {"adaptation": arm.partition("+")[0], "options": {"layer_decay": 0.9}} for arm in arms}},
        "adaptations": [{"name": kind, "kind": kind, "datasets": [f"{kind} text"]} | adaptation for kind in kinds],
        "hardware": {"device": "cpu", "name": "a processor", "cores": 2, "threads": 1},
        "precision": "bf16",
    }
