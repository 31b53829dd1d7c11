"""One set of options, trained and scored on the validation split: the test split is neither tokenized nor predicted."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sentiment.config.parsing import build_arguments
from sentiment.data.finetuning_data import RunData
from sentiment.models.classifier import SentimentClassifier
from sentiment.pipelines import adaptation, finetuning
from sentiment.pipelines.evaluation import evaluate_split
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.pipelines.self_training import TEACHER_FOLDER
from sentiment.runs.folder import remove_checkpoints
from sentiment.runs.results import write_predictions
from sentiment.search.arguments import Candidate, name_adaptation
from sentiment.storage import read_json
from sentiment.training.history import SELECTION
from sentiment.training.trainer import SentimentTrainer

RECORD_FILE = "trial.json"
PREDICTIONS_FILE = "validation.parquet"
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"  # how a trial may end
# Takes the share of the training that is done and the best score so far, and may raise to stop the training.
Report = Callable[[float, float], None]


class ValidationRun(FinetuningRun):
    """A fine-tuning that sees training and validation split only, and has no report; `report` gets its scores.

    Its training is that of `FinetuningRun` with the same options, bit by bit.
    """

    scored_split = "validation"
    report: Report | None = None
    metric = "accuracy"
    keep_predictions = False

    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and validation split."""
        return {name: found for name, found in super().compute_fingerprints().items() if name != "test"}

    def get_trainer_options(self, data: RunData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer, with a callback for `report`."""
        options = super().get_trainer_options(data, tokenizer)
        if self.report:
            options["callbacks"] = [*options["callbacks"], ScoreCallback(self.metric, self.report)]
        return options

    def evaluate_before(self, trainer: SentimentTrainer, data: RunData, tokenizer: PreTrainedTokenizerBase) -> Any:
        """Nothing, where a fine-tuning would test the model; the head is fitted if it is to be."""
        self.fit_head_first(trainer, data)

    def summarize(
        self, trainer: SentimentTrainer, data: RunData, tokenizer: PreTrainedTokenizerBase, before: Any
    ) -> dict[str, Any]:
        """Validation metrics of the best epoch, history and resources; writes the validation predictions if asked."""
        if self.keep_predictions:
            part = data.splits["validation"]
            assert isinstance(trainer.model, SentimentClassifier)  # it scores in the precision of training, as trials
            _, probabilities = evaluate_split(trainer.model, data.tokenized["validation"], tokenizer, part)
            write_predictions(self.run_dir / PREDICTIONS_FILE, part, probabilities)
        return self.summarize_training(trainer, data)

    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes nothing: the report is that of the search."""


class ScoreCallback(TrainerCallback):
    """Passes the score of the best checkpoint so far to `report` after each evaluation, also those before a resume."""

    def __init__(self, metric: str, report: Report) -> None:
        self.metric = metric
        self.report = report
        self.best: tuple[float, float] | None = None  # what chooses the checkpoint, and the score

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Reports the evaluations of the checkpoint that the training is resumed from."""
        for entry in state.log_history:
            if "eval_loss" in entry and entry["step"]:
                self.report_entry(entry, entry["step"] / state.max_steps)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        """Reports the score; `report` may raise."""
        self.report_entry(metrics, state.global_step / state.max_steps)

    def report_entry(self, metrics: Mapping[str, Any], progress: float) -> None:
        """Reports the best score so far, by what chooses the checkpoint that a run ends with."""
        found = (metrics[f"eval_{SELECTION}"], metrics[f"eval_{self.metric}"])
        if self.best is None or found[0] > self.best[0]:
            self.best = found
        self.report(progress, self.best[1])


def score_candidate(
    candidate: Candidate,
    folder: Path,
    seeds: Sequence[int],
    metric: str,
    adaptations: Path,
    start_seed: Callable[[Sequence[float]], Report] | None = None,
    keep_predictions: bool = False,
) -> dict[str, Any]:
    """Train with each seed, and return scores, losses and seconds; finished runs in the folder are not repeated.

    Args:
        candidate: the options.
        folder: where each run has a folder, whose weights are removed.
        seeds: of the fine-tunings; the adaptation has its own.
        metric: the validation metric that is the score.
        adaptations: folder that holds adaptations by name, for all candidates.
        start_seed: given the scores of earlier seeds, what the evaluations of the next are reported to.
        keep_predictions: write those of the validation rows into the folder of each run.

    Raises:
        Exception: whatever a run or `start_seed` raises; the folder then holds an unfinished run.
    """
    start = time.perf_counter()
    found: list[dict[str, Any]] = []
    adaptation_seconds: dict[str, float] = {}
    for seed in seeds:
        run_dir, options = folder / f"seed_{seed}", candidate.finetuning
        adapting = candidate.build_adaptation(seed)
        if adapting:
            adapted, seconds = train_adaptation(adapting, adaptations)
            adaptation_seconds[adapted.name] = seconds
            options = options | {"model_name_or_path": str(adapted), "model_revision": None}
        own = {"seed": seed, "output_dir": str(run_dir), "resume": True, "baselines": False}
        run = ValidationRun(candidate.strategy, *build_arguments(finetuning.ARGUMENTS, options | own))
        run.metric, run.keep_predictions = metric, keep_predictions
        run.report = start_seed([one["validation"][metric] for one in found]) if start_seed else None
        found.append(run.execute())
        remove_checkpoints(run_dir)
        for name in ("model", TEACHER_FOLDER):
            shutil.rmtree(run_dir / name, ignore_errors=True)
    scores, losses = ([one["validation"][name] for one in found] for name in (metric, "loss"))
    return {
        "score": fmean(scores),
        "loss": fmean(losses),
        "scores": scores,
        "losses": losses,
        "collapsed": [one["validation"].get("collapsed") for one in found],
        "best_epochs": [one["best_epoch"] for one in found],
        "train_seconds": sum(one["resources"]["train_seconds"] for one in found),
        "adaptations": adaptation_seconds,
        "seconds": time.perf_counter() - start,
    }


def train_adaptation(options: Mapping[str, Any], folder: Path) -> tuple[Path, float]:
    """The folder of the adaptation with these options, and the seconds that its training took.

    One that is there already is used; one that another process trains is waited for.
    """
    run_dir = folder / name_adaptation(options)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(run_dir.with_suffix(".lock")):
        is_removed = (run_dir / "metrics.json").exists() and not any((run_dir / "model").glob("*.safetensors"))
        start = {"overwrite": True} if is_removed else {"resume": True}
        metrics = adaptation.adapt(**{**options, "output_dir": str(run_dir), **start})
        remove_checkpoints(run_dir)
    return run_dir, float(metrics["resources"]["train_seconds"])


def remove_unfinished(folder: Path) -> None:
    """Remove checkpoints and weights of the runs of a stopped trial, but not what they logged."""
    for run_dir in folder.glob("seed_*"):
        for name in ("checkpoints", "model", "model.part", TEACHER_FOLDER):
            shutil.rmtree(run_dir / name, ignore_errors=True)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a trial in its folder; None if it has not ended."""
    path = folder / RECORD_FILE
    record: dict[str, Any] | None = read_json(path) if path.exists() else None
    return record
