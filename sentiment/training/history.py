"""What the Trainer's log says of a finished training."""

from typing import Any

from transformers import Trainer

from sentiment.training.callbacks import EpochTimerCallback
from sentiment.training.hardware import measure_peak_memory

SELECTION = "selection"  # what chooses the best checkpoint of a fine-tuning: its metric, and for ties the loss
TIMINGS = {
    "eval_runtime",
    "eval_samples_per_second",
    "eval_steps_per_second",
    "eval_model_preparation_time",
    f"eval_{SELECTION}",
}


def build_history(log_history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per evaluation: `epoch`, `step`, `train_loss` and `validation` metrics.

    `train_loss` is the mean over the steps since the previous evaluation; None if none was logged.
    """
    history: list[dict[str, Any]] = []
    losses: list[tuple[int, float]] = []  # steps that a logged loss is the mean of, and that loss
    last_step = 0
    for entry in log_history:
        if "loss" in entry:
            losses.append((entry["step"] - last_step, entry["loss"]))
            last_step = entry["step"]
        elif "eval_loss" in entry and entry["step"]:
            steps = sum(count for count, _ in losses)
            history.append(
                {
                    "epoch": int(entry["epoch"]) if entry["epoch"] == int(entry["epoch"]) else round(entry["epoch"], 3),
                    "step": entry["step"],
                    "train_loss": sum(count * loss for count, loss in losses) / steps if steps else None,
                    "validation": {
                        name.removeprefix("eval_"): value
                        for name, value in entry.items()
                        if name.startswith("eval_") and name not in TIMINGS
                    },
                }
            )
            losses = []
    return history


def get_best_evaluation(trainer: Trainer, history: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of the history whose weights were restored."""
    return next(entry for entry in history if entry["step"] == trainer.state.best_global_step)


def get_epoch_timer(trainer: Trainer) -> EpochTimerCallback:
    """The callback that measured the seconds of training."""
    return next(callback for callback in trainer.callback_handler.callbacks if isinstance(callback, EpochTimerCallback))


def summarize_resources(trainer: Trainer, examples: float, tokens: float) -> dict[str, Any]:
    """The `resources` of metrics.json, for the number of texts and of tokens without padding that were trained on."""
    seconds = get_epoch_timer(trainer).seconds
    return {
        "train_seconds": seconds,
        "examples_per_second": examples / seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_mb": measure_peak_memory(),
        "precision": describe_precision(trainer.args),
    }


def describe_precision(args: Any) -> str:
    """The number format that the Trainer multiplies matrices in."""
    return "fp16" if args.fp16 else "bf16" if args.bf16 else "fp32"
