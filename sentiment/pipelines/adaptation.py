"""Adaptation to unlabelled reviews: the first half of strategy B (`mlm`)."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, ModelArguments
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.data.adaptation_data import AdaptationData, load_training_corpus, prepare_adaptation_data
from sentiment.environment import is_main_process
from sentiment.exceptions import require
from sentiment.inference.fill_mask import MASK
from sentiment.pipelines.objectives import OBJECTIVES
from sentiment.pipelines.run import Run
from sentiment.reporting.adaptation_report import write_adaptation_report
from sentiment.reporting.model_cards import write_adapted_model_card
from sentiment.reporting.terminal import render_adaptation
from sentiment.runs.folder import ADAPTATION_STRATEGY
from sentiment.runs.lineage import KEYS_FILE
from sentiment.training.history import build_history, get_best_evaluation, summarize_resources
from sentiment.training.trainer import SentimentTrainer

ARGUMENTS = (ModelArguments, CorpusArguments, AdaptationArguments)
LOGGED_STEPS = 200  # points of the loss curve
STREAM_EVALUATIONS = 5  # of a stream, which has no epochs
logger = logging.getLogger(__name__)


def main(flags: Sequence[str] | None = None, **parser_options: Any) -> None:
    """Parses the flags (default: the command line), adapts, and prints the losses before and after."""
    transformers_logging.disable_progress_bar()  # of loading and saving; training has its own
    model_args, corpus_args, args = parse_arguments(ARGUMENTS, flags, **parser_options)
    metrics = AdaptationRun(ADAPTATION_STRATEGY, model_args, corpus_args, args).execute()
    if is_main_process():
        print(f"\n{render_adaptation(metrics)}\n\nReport: {Path(args.output_dir) / 'report.html'}")


def adapt(
    *,
    model_name_or_path: str | None = None,
    dataset_name: str | list[str] | None = None,
    output_dir: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Adapts an encoder to unlabelled reviews, by masked language modelling unless `objective` says otherwise.

    Args:
        model_name_or_path: Hub id, local folder, or `minilm`. Default: `google-bert/bert-base-uncased`.
        dataset_name: one or several sources of reviews, as on the command line; labels are not read. Default: `imdb`.
        output_dir: folder of the run: model, metrics, report. Default: `outputs/mlm`.
        options: other options of train_mlm.py by their names, such as `target_dataset="labelled.csv"`.

    Returns:
        The metrics of the run, as in its metrics.json.

    Raises:
        InputError: wrong data, model or options; nothing is written then.
    """
    named = {"model_name_or_path": model_name_or_path, "dataset_name": dataset_name, "output_dir": output_dir}
    given = options | {name: value for name, value in named.items() if value is not None}
    return AdaptationRun(ADAPTATION_STRATEGY, *build_arguments(ARGUMENTS, given)).execute()


class AdaptationRun(Run):
    """An adaptation, judged by its loss on held-out reviews; raises InputError for an unknown objective."""

    has_new_head = False

    def __init__(
        self, strategy: str, model_args: ModelArguments, data_args: CorpusArguments, args: AdaptationArguments
    ) -> None:
        super().__init__(strategy, model_args, data_args, args)
        name = args.objective
        require(name in OBJECTIVES, f"--objective {name}: choose among {', '.join(OBJECTIVES)}")
        self.objective = OBJECTIVES[name](args)

    def complete_arguments(self) -> None:
        """All options have defaults of their own."""

    def choose_arguments(self, data: AdaptationData) -> dict[str, Any]:
        """No option depends on the rows."""
        return {}

    @property
    def progress_metric(self) -> str:
        """The metric of the progress bar."""
        return self.objective.description.main_metric

    def check_model(self) -> None:
        """Any encoder can be adapted."""

    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the corpus; none of a stream, which would have to be read for them."""
        return {} if self.data_args.streaming else load_training_corpus(self.data_args, self.args.seed).fingerprints

    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """Reviews without test texts, split and tokenized."""
        require(
            self.args.max_steps > 0 or not self.data_args.streaming,
            "--streaming needs --max_steps: the length of a stream is not known",
        )
        sampling = self.args.train_sampling_strategy
        require(
            sampling == "group_by_length" or not self.data_args.streaming,
            f"--train_sampling_strategy {sampling}: texts of a stream come in its own order",
        )
        require(
            tokenizer.mask_token is not None or not self.objective.needs_mask_token,
            f"--objective {self.args.objective}: {self.model_args.model_name_or_path} has no mask token",
        )
        return prepare_adaptation_data(self.data_args, self.args, tokenizer)

    def load_model(self, data: Any, model_path: str, revision: str | None = None) -> PreTrainedModel:
        """The pretrained encoder with the head of the objective."""
        preprocessing = {name: getattr(self.data_args, name) for name in ("cleaning", "max_seq_length")}
        model, self.has_new_head = self.objective.load_model(model_path, preprocessing, revision)
        return model

    def get_trainer_options(self, data: AdaptationData, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer; a stream, which has no epochs, is evaluated by steps."""
        args, steps = self.args, self.args.max_steps
        if steps <= 0:
            assert isinstance(data.train, Dataset)
            steps = math.ceil(len(data.train) / args.global_batch_size * args.num_train_epochs)
        changes: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding"}
        if args.logging_strategy == "steps" and args.logs_by_default:
            changes["logging_steps"] = max(1, steps // LOGGED_STEPS)
        if self.data_args.streaming:
            every = args.eval_steps or max(1, math.ceil(steps / STREAM_EVALUATIONS))
            changes |= {"train_sampling_strategy": "random", "eval_strategy": "steps", "eval_steps": every}
            changes |= {"save_strategy": "steps", "save_steps": every}
        head_warmup_ratio = args.head_warmup_ratio if self.has_new_head else 0.0
        if head_warmup_ratio:
            logger.warning("the head is new: only the head is trained in the first %.0f%%", 100 * head_warmup_ratio)
        return {
            "train_dataset": data.train,
            "eval_dataset": self.objective.build_validation(data.validation, tokenizer),
            "data_collator": self.objective.build_collator(tokenizer, self.tracker),
            "compute_metrics": self.objective.compute_metrics,
            "head_warmup_ratio": head_warmup_ratio,
            "argument_changes": changes,
        }

    def describe(self, data: AdaptationData, model_path: str) -> dict[str, Any]:
        """The data, and whether the head is new."""
        return {
            "data": {
                "datasets": self.data_args.dataset_name,
                "fingerprints": data.fingerprints,
                "audit": data.audit,
            }
        }

    def evaluate(self, trainer: SentimentTrainer) -> dict[str, float]:
        """The validation metrics of the objective."""
        logged = trainer.evaluate()
        return {name: logged[f"eval_{name}"] for name in self.objective.metric_names}

    def evaluate_before(
        self, trainer: SentimentTrainer, data: AdaptationData, tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Validation metrics and answers to examples; writes the hashes of the training texts."""
        examples = self.objective.choose_examples(data.held_out_texts, tokenizer)
        answers: list[Any] = []
        if is_main_process():
            if data.text_keys is not None:
                np.save(self.run_dir / KEYS_FILE, data.text_keys, allow_pickle=False)
            model: Any = trainer.model
            answers = self.objective.answer_examples(model, tokenizer, examples)
        return {"metrics": self.evaluate(trainer), "examples": examples, "answers": answers}

    def summarize(
        self, trainer: SentimentTrainer, data: AdaptationData, tokenizer: PreTrainedTokenizerBase, before: Any
    ) -> dict[str, Any]:
        """Validation metrics before and after, history, loss curve, examples and resources."""
        log = trainer.state.log_history
        history = build_history(log)
        for entry in history:
            entry["validation"] = {name: entry["validation"][name] for name in self.objective.metric_names}
        best = get_best_evaluation(trainer, history)
        texts = trainer.state.global_step * self.args.global_batch_size
        if isinstance(trainer.train_dataset, Dataset):
            texts = round(len(trainer.train_dataset) * (trainer.state.epoch or 0))  # the last batches may be smaller
        # The saved model, not the Trainer's: that one's forward pass keeps rounding to the precision of training.
        adapted, _ = self.objective.load_model(str(self.run_dir / "model"))
        answers = self.objective.answer_examples(adapted, tokenizer, before["examples"])
        objective = self.objective.describe(adapted.config)
        if objective["hub_example"] and tokenizer.mask_token:
            objective["hub_example"] = objective["hub_example"].replace(MASK, tokenizer.mask_token)
        resources = summarize_resources(trainer, texts, trainer.state.num_input_tokens_seen)
        return {
            "objective": objective,
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
            "examples": [
                example | {"before": old, "after": new}
                for example, old, new in zip(before["examples"], before["answers"], answers, strict=True)
            ],
        }

    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes the model card and the report."""
        record["model"]["has_new_head"] = self.has_new_head
        write_adapted_model_card(self.run_dir / "model", record, metrics)
        write_adaptation_report(self.run_dir, record, metrics)


def get_padding_share(audit: dict[str, Any], sampling_strategy: str) -> float | None:
    """Share of padding in batches of similar length; None for other batches and for streams, which are not counted."""
    if "long_text_modes" not in audit or sampling_strategy != "group_by_length":
        return None
    share: float = audit["long_text_modes"][audit["long_texts"]]["padding_share"]
    return share
