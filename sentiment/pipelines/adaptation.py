"""The sequence of `mlm`: unlabelled reviews, masks, model, trainer, train, evaluate, report."""

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LRScheduler
from transformers import EvalPrediction, PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, ModelArguments
from sentiment.config.parsing import parse_arguments
from sentiment.data.adaptation_data import AdaptationData, compute_fingerprints, prepare_adaptation_data
from sentiment.environment import is_main_process
from sentiment.exceptions import InputError
from sentiment.inference.fill_mask import fill_masks, mask_words
from sentiment.models.loading import load_tokenizer
from sentiment.models.masked_lm import IGNORED, BertForSparseMaskedLM, load_masked_lm
from sentiment.models.model_folder import resolve_model
from sentiment.pipelines.run import (
    build_history,
    build_training_arguments,
    check_length,
    get_best_evaluation,
    get_epoch_timer,
    replace_progress_callback,
    save_model,
    summarize_resources,
    train,
)
from sentiment.reporting.adaptation_report import write_adaptation_report
from sentiment.reporting.model_cards import write_adapted_model_card
from sentiment.reporting.terminal import render_adaptation
from sentiment.runs.folder import check_same_data, lock_run_dir, remove_previous_run
from sentiment.runs.lineage import KEYS_FILE
from sentiment.runs.record import build_run_record, load_finished_metrics, merge_previous_record
from sentiment.storage import read_json, write_json
from sentiment.training.callbacks import EpochProgressCallback, EpochTimerCallback
from sentiment.training.checkpointing import CheckpointingTrainer
from sentiment.training.hardware import limit_onednn_caches
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking
from sentiment.training.optimization import build_head_first_schedule, build_optimizer

LOGGED_STEPS = 200  # points of the loss curve
STREAM_EVALUATIONS = 5  # of a stream, which has no epochs
logger = logging.getLogger(__name__)


def main() -> None:
    """Parses the command line, adapts, and prints the losses before and after."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, corpus_args, args = parse_arguments([ModelArguments, CorpusArguments, AdaptationArguments])
    metrics = adapt(model_args, corpus_args, args)
    if is_main_process():
        print(f"\n{render_adaptation(metrics)}\n\nReport: {Path(args.output_dir) / 'report.html'}")


def adapt(model_args: ModelArguments, corpus_args: CorpusArguments, args: AdaptationArguments) -> dict[str, Any]:
    """The run's metrics, as in its `metrics.json`; everything else is in its folder, `args.output_dir`.

    A folder that already holds this very run, finished, is left as it is.

    Raises:
        InputError: wrong data, model or options; nothing is written then.
    """
    run_dir = Path(args.output_dir)
    options = asdict(model_args) | asdict(corpus_args) | asdict(args)
    with lock_run_dir(run_dir) if is_main_process() else nullcontext():
        finished = load_finished_metrics(run_dir, options, args, lambda: compute_fingerprints(corpus_args, args))
        return run_adaptation(model_args, corpus_args, args) if finished is None else finished


def run_adaptation(
    model_args: ModelArguments, corpus_args: CorpusArguments, args: AdaptationArguments
) -> dict[str, Any]:
    """The sequence of `adapt`, in a folder that is not finished and held by nobody else."""
    run_dir = Path(args.output_dir)
    clock = time.perf_counter()
    limit_onednn_caches()
    training_args = build_mlm_arguments(args)
    set_seed(args.seed)

    model_path = resolve_model(model_args.model_name_or_path)
    tokenizer = load_tokenizer(model_path, corpus_args.max_seq_length)
    with training_args.main_process_first(desc="data"):
        data = prepare_adaptation_data(corpus_args, args, tokenizer)
    if args.resume:
        check_same_data(run_dir, data.fingerprints)
    preprocessing = {"cleaning": corpus_args.cleaning, "max_seq_length": corpus_args.max_seq_length}
    model, has_new_head = load_masked_lm(model_path, preprocessing)
    check_length(corpus_args.max_seq_length, model.config.max_position_embeddings)
    trainer = build_trainer(model, tokenizer, data, args, training_args, has_new_head)
    options = asdict(model_args) | asdict(corpus_args) | asdict(args)
    run = build_run_record("mlm", options, model, training_args)
    run["model"]["has_new_head"] = has_new_head
    run["data"] = {"datasets": corpus_args.dataset_name, "fingerprints": data.fingerprints, "audit": data.audit}

    masks = mask_words(data.held_out_texts, tokenizer, seed=args.seed)
    if trainer.is_world_process_zero():
        if args.overwrite:
            remove_previous_run(run_dir)
        merge_previous_record(run_dir, run)
        write_json(run_dir / "run.json", run)
        if data.text_keys is not None:
            np.save(run_dir / KEYS_FILE, data.text_keys, allow_pickle=False)
        guesses_before = fill_masks(model, tokenizer, [mask["text"] for mask in masks])
    before = extract_eval_metrics(trainer.evaluate())

    train(trainer, args)
    if trainer.is_world_process_zero():
        run["model"]["weights_sha256"] = save_model(model, tokenizer, run_dir / "model")
        metrics = summarize_training(trainer, before)
        adapted, _ = load_masked_lm(str(run_dir / "model"))  # the Trainer's own rounds to the precision of training
        guesses_after = fill_masks(adapted, tokenizer, [mask["text"] for mask in masks])
        metrics["filled_masks"] = [
            mask | {"before": old, "after": new}
            for mask, old, new in zip(masks, guesses_before, guesses_after, strict=True)
        ]
        metrics["resources"]["padding_share"] = find_padding_share(data.audit, args.train_sampling_strategy)
        run["seconds"] = time.perf_counter() - clock
        run["peak_memory_mb"] = metrics["resources"]["peak_memory_mb"]
        write_results(run_dir, run, metrics)
    trainer.accelerator.wait_for_everyone()
    return read_json(run_dir / "metrics.json")


def build_mlm_arguments(args: AdaptationArguments) -> TrainingArguments:
    """Transformers' options for an adaptation: the epoch of the lowest validation loss is kept."""
    own: dict[str, Any] = {
        "metric_for_best_model": "loss",
        "greater_is_better": False,
        "logging_strategy": "steps",
        "include_num_input_tokens_seen": "non_padding",
        "remove_unused_columns": False,  # the collator needs the mask of special tokens
    }
    if args.max_steps is not None:
        own["max_steps"] = args.max_steps
    if args.streaming:
        every = max(1, math.ceil(own["max_steps"] / STREAM_EVALUATIONS))
        own["train_sampling_strategy"] = "random"  # lengths are not known before a text is read
        own |= {"eval_strategy": "steps", "eval_steps": every, "save_strategy": "steps", "save_steps": every}
    return build_training_arguments(args, **own)


class MaskedLMTrainer(CheckpointingTrainer):
    """A Trainer whose schedule may let the head learn alone at first."""

    def __init__(self, *args: Any, head_warmup_ratio: float, warmup_ratio: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.head_warmup_ratio = head_warmup_ratio
        self.warmup_ratio = warmup_ratio

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """The schedule of `build_head_first_schedule`, for as many steps as this training takes."""
        if self.lr_scheduler is None:
            chosen = optimizer or self.optimizer
            assert chosen is not None
            steps = self.count_head_steps(num_training_steps)
            self.lr_scheduler = build_head_first_schedule(chosen, num_training_steps, self.warmup_ratio, steps)
            if steps:
                logger.warning(
                    "the head is fresh: for the first %d of %d steps only it learns", steps, num_training_steps
                )
        return self.lr_scheduler

    def count_head_steps(self, num_training_steps: int) -> int:
        """In how many steps only the head learns."""
        return round(self.head_warmup_ratio * num_training_steps)


def build_trainer(
    model: BertForSparseMaskedLM,
    tokenizer: PreTrainedTokenizerBase,
    data: AdaptationData,
    args: AdaptationArguments,
    training_args: TrainingArguments,
    has_new_head: bool,
) -> MaskedLMTrainer:
    """A Trainer that masks anew for each step of training and once for validation."""
    steps = args.max_steps
    if steps is None:
        assert isinstance(data.train, Dataset)
        steps = math.ceil(len(data.train) / args.batch_size) * args.num_train_epochs
    training_args.logging_steps = max(1, steps // LOGGED_STEPS)
    validation = apply_static_masking(data.validation, tokenizer, args.mlm_probability, args.seed)
    if not any(label != IGNORED for labels in validation["labels"] for label in labels):
        raise InputError("no token of the validation texts is masked: pass more or longer reviews")
    collator = SeededMaskingCollator(tokenizer, args.mlm_probability, args.seed)
    trainer = MaskedLMTrainer(
        model=model,
        args=training_args,
        train_dataset=data.train,
        eval_dataset=validation,
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=compute_trainer_metrics,
        optimizers=(build_optimizer(model, args.learning_rate, args.head_lr, weight_decay=args.weight_decay), None),
        callbacks=[EpochTimerCallback()],
        head_warmup_ratio=args.head_warmup_ratio if has_new_head else 0.0,
        warmup_ratio=args.warmup_steps,
    )
    collator.get_epoch = trainer.get_epoch
    replace_progress_callback(trainer, EpochProgressCallback("perplexity"))
    return trainer


def compute_trainer_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Loss (nats per masked token), perplexity, and accuracy at masked tokens, from the sums of each row.

    The Trainer's own loss would be a mean over batches, in which a masked token of a short batch weighs more.
    """
    losses, correct, masked = (np.asarray(values, dtype=np.float64).sum() for values in prediction.predictions)
    loss = float(losses / masked)
    perplexity = math.exp(min(loss, 700.0))  # what a float can hold
    return {"loss": loss, "perplexity": perplexity, "accuracy": float(correct / masked), "masked_tokens": int(masked)}


def extract_eval_metrics(logged: dict[str, float]) -> dict[str, float]:
    """The metrics of `compute_trainer_metrics` as the Trainer gives them back."""
    return {name: logged[f"eval_{name}"] for name in ("loss", "perplexity", "accuracy", "masked_tokens")}


def summarize_training(trainer: MaskedLMTrainer, before: dict[str, float]) -> dict[str, Any]:
    """`validation`, `history`, `best_epoch`, `steps` and `resources`, as `metrics.json` holds them."""
    log = trainer.state.log_history
    history = build_history(log)
    best = get_best_evaluation(trainer, history)
    batch_size = trainer.args.train_batch_size * trainer.args.world_size
    examples = trainer.state.global_step * batch_size
    if trainer.args.max_steps <= 0 and isinstance(trainer.train_dataset, Dataset):
        examples = len(trainer.train_dataset) * get_epoch_timer(trainer).epochs  # the last batch of each may be smaller
    return {
        "validation": {"before": before, "after": best["validation"]},
        "history": history,
        "best_epoch": best["epoch"],
        "steps": [
            {"step": entry["step"], "loss": entry["loss"], "lr": entry["learning_rate"]}
            for entry in log
            if "loss" in entry
        ],
        "head_warmup_steps": trainer.count_head_steps(trainer.state.max_steps),
        "resources": summarize_resources(trainer, examples, trainer.state.num_input_tokens_seen),
    }


def find_padding_share(audit: dict[str, Any], sampling_strategy: str) -> float | None:
    """Share of padding in batches of like lengths; None for others and for streams, where nobody has counted it."""
    if "long_text_modes" not in audit or sampling_strategy != "group_by_length":
        return None
    return audit["long_text_modes"][audit["long_texts"]]["padding_share"]


def write_results(run_dir: Path, run: dict[str, Any], metrics: dict[str, Any]) -> None:
    """Writes `run.json`, the model card and the report, and `metrics.json` last: with it, the run is finished."""
    write_json(run_dir / "run.json", run)
    write_adapted_model_card(run_dir / "model", run, metrics)
    write_adaptation_report(run_dir, run, metrics)
    write_json(run_dir / "metrics.json", metrics)
