"""Adaptation to unlabelled reviews by masked-language modelling: the first half of strategy B (`mlm`)."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, ModelArguments
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.data.adaptation_data import AdaptationData, compute_fingerprints, prepare_adaptation_data
from sentiment.environment import is_main_process
from sentiment.exceptions import require
from sentiment.inference.fill_mask import fill_masks, mask_words
from sentiment.models.masked_lm import IGNORE_INDEX, BertForSparseMaskedLM, load_masked_lm
from sentiment.pipelines.run import Run
from sentiment.reporting.adaptation_report import write_adaptation_report
from sentiment.reporting.model_cards import write_adapted_model_card
from sentiment.reporting.terminal import render_adaptation
from sentiment.runs.lineage import KEYS_FILE
from sentiment.training.history import build_history, get_best_evaluation, get_epoch_timer, summarize_resources
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking
from sentiment.training.trainer import SentimentTrainer

ARGUMENTS = (ModelArguments, CorpusArguments, AdaptationArguments)
LOGGED_STEPS = 200  # points of the loss curve
STREAM_EVALUATIONS = 5  # of a stream, which has no epochs
MAX_EXPONENT = 700.0  # of a float
logger = logging.getLogger(__name__)


def main() -> None:
    """Parses the command line, adapts, and prints the losses before and after."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, corpus_args, args = parse_arguments(ARGUMENTS)
    metrics = AdaptationRun("mlm", model_args, corpus_args, args).execute()
    if is_main_process():
        print(f"\n{render_adaptation(metrics)}\n\nReport: {Path(args.output_dir) / 'report.html'}")


def adapt(
    *,
    model_name_or_path: str = "google-bert/bert-base-uncased",
    dataset_name: str | list[str] = "imdb",
    output_dir: str | Path = "outputs/mlm",
    **options: Any,
) -> dict[str, Any]:
    """Adapts a BERT to unlabelled reviews by masked-language modelling.

    Args:
        model_name_or_path: Hub id, local folder, or `minilm`.
        dataset_name: one or several sources of reviews, as on the command line; labels are not read.
        output_dir: folder of the run: model, metrics, report.
        options: other options of train_mlm.py by their names, such as `target_dataset="labelled.csv"`.

    Returns:
        The metrics of the run, as in its metrics.json.

    Raises:
        InputError: wrong data, model or options; nothing is written then.
    """
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    given = {"model_name_or_path": model_name_or_path, "dataset_name": names, "output_dir": str(output_dir)}
    return AdaptationRun("mlm", *build_arguments(ARGUMENTS, given | options)).execute()


class AdaptationRun(Run):
    """An adaptation, judged by its loss on held-out reviews with static masks."""

    progress_metric = "perplexity"
    has_new_head = False

    def check_model(self) -> None:
        """Any BERT can be adapted."""

    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the corpus."""
        return compute_fingerprints(self.data_args, self.args)

    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """Reviews without test texts, split and tokenized."""
        require(
            self.args.max_steps > 0 or not self.data_args.streaming,
            "--streaming needs --max_steps: the length of a stream is not known",
        )
        return prepare_adaptation_data(self.data_args, self.args, tokenizer)

    def load_model(self, model_path: str, revision: str | None = None) -> BertForSparseMaskedLM:
        """The pretrained BERT with a head for masked tokens."""
        preprocessing = {name: getattr(self.data_args, name) for name in ("cleaning", "max_seq_length")}
        model, self.has_new_head = load_masked_lm(model_path, preprocessing, revision)
        return model

    def get_trainer_options(self, data: AdaptationData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer: dynamic masks for training, static ones for validation."""
        args = self.args
        validation = apply_static_masking(data.validation, tokenizer, args.mlm_probability, args.seed)
        require(
            any(label != IGNORE_INDEX for labels in validation["labels"] for label in labels),
            "no token of the validation texts is masked: pass more or longer reviews",
        )
        steps = args.max_steps
        if steps <= 0:
            assert isinstance(data.train, Dataset)
            steps = math.ceil(len(data.train) / args.global_batch_size * args.num_train_epochs)
        changes: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding"}
        if args.logging_strategy == "steps":
            changes["logging_steps"] = max(1, steps // LOGGED_STEPS)
        if self.data_args.streaming:
            every = max(1, math.ceil(steps / STREAM_EVALUATIONS))
            changes |= {"train_sampling_strategy": "random", "eval_strategy": "steps", "eval_steps": every}
            changes |= {"save_strategy": "steps", "save_steps": every}
        head_warmup_ratio = args.head_warmup_ratio if self.has_new_head else 0.0
        if head_warmup_ratio:
            logger.warning("the head is new: only the head is trained in the first %.0f%%", 100 * head_warmup_ratio)
        return {
            "train_dataset": data.train,
            "eval_dataset": validation,
            "data_collator": SeededMaskingCollator(tokenizer, args.mlm_probability, args.seed, self.tracker),
            "compute_metrics": compute_trainer_metrics,
            "head_warmup_ratio": head_warmup_ratio,
            "argument_changes": changes,
        }

    def describe(self, data: AdaptationData, model_path: str) -> dict[str, Any]:
        """The data."""
        return {
            "data": {
                "datasets": self.data_args.dataset_name,
                "fingerprints": data.fingerprints,
                "audit": data.audit,
            }
        }

    def evaluate_before(
        self, trainer: SentimentTrainer, data: AdaptationData, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Validation metrics and guesses for some masked words; writes the hashes of the training texts."""
        masks = mask_words(data.held_out_texts, tokenizer, seed=self.args.seed)
        guesses: list[Any] = []
        if is_main_process():
            if data.text_keys is not None:
                np.save(self.run_dir / KEYS_FILE, data.text_keys, allow_pickle=False)
            assert isinstance(trainer.model, BertForSparseMaskedLM)
            guesses = fill_masks(trainer.model, tokenizer, [mask["text"] for mask in masks])
        return {"metrics": extract_eval_metrics(trainer.evaluate()), "masks": masks, "guesses": guesses}

    def summarize(
        self,
        trainer: SentimentTrainer,
        data: AdaptationData,
        tokenizer: PreTrainedTokenizerBase,
        before: dict[str, Any],
    ) -> dict[str, Any]:
        """Validation metrics before and after, history, loss curve, filled masks and resources."""
        log = trainer.state.log_history
        history = build_history(log)
        best = get_best_evaluation(trainer, history)
        examples = trainer.state.global_step * self.args.global_batch_size
        if self.args.max_steps <= 0 and isinstance(trainer.train_dataset, Dataset):
            examples = len(trainer.train_dataset) * get_epoch_timer(trainer).epochs  # the last batches may be smaller
        # The saved model, not the Trainer's: that one's forward pass keeps rounding to the precision of training.
        adapted, _ = load_masked_lm(str(self.run_dir / "model"))
        guesses = fill_masks(adapted, tokenizer, [mask["text"] for mask in before["masks"]])
        resources = summarize_resources(trainer, examples, trainer.state.num_input_tokens_seen)
        return {
            "validation": {"before": before["metrics"], "after": best["validation"]},
            "history": history,
            "best_epoch": best["epoch"],
            "steps": [
                {"step": entry["step"], "loss": entry["loss"], "lr": entry["learning_rate"]}
                for entry in log
                if "loss" in entry
            ],
            "head_warmup_steps": trainer.count_head_steps(trainer.state.max_steps),
            "resources": resources
            | {"padding_share": get_padding_share(data.audit, trainer.args.train_sampling_strategy)},
            "filled_masks": [
                mask | {"before": old, "after": new}
                for mask, old, new in zip(before["masks"], before["guesses"], guesses, strict=True)
            ],
        }

    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes the model card and the report."""
        record["model"]["has_new_head"] = self.has_new_head
        write_adapted_model_card(self.run_dir / "model", record, metrics)
        write_adaptation_report(self.run_dir, record, metrics)


def compute_trainer_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Loss (nats per masked token), perplexity, and accuracy at masked tokens, from the sums of each row.

    The Trainer's own loss is a mean over batches, in which a masked token of a short batch has more weight.
    """
    losses, correct, masked = (np.asarray(values, dtype=np.float64).sum() for values in prediction.predictions)
    loss = float(losses / masked)
    perplexity = math.exp(min(loss, MAX_EXPONENT))
    return {"loss": loss, "perplexity": perplexity, "accuracy": float(correct / masked), "masked_tokens": int(masked)}


def extract_eval_metrics(logged: dict[str, float]) -> dict[str, float]:
    """The metrics of `compute_trainer_metrics` in what `Trainer.evaluate` returns."""
    return {name: logged[f"eval_{name}"] for name in ("loss", "perplexity", "accuracy", "masked_tokens")}


def get_padding_share(audit: dict[str, Any], sampling_strategy: str) -> float | None:
    """Share of padding in batches of similar length; None for other batches and for streams, which are not counted."""
    if "long_text_modes" not in audit or sampling_strategy != "group_by_length":
        return None
    share: float = audit["long_text_modes"][audit["long_texts"]]["padding_share"]
    return share
