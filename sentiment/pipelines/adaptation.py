"""Adaptation to reviews: the first half of strategy B (`mlm`)."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from sentiment.config.arguments import AdaptationArguments, CorpusArguments, ModelArguments
from sentiment.config.parsing import build_arguments, parse_arguments
from sentiment.data.adaptation_data import AdaptationData
from sentiment.data.labelled_adaptation import ProbeData, load_probe_data
from sentiment.environment import is_main_process
from sentiment.evaluation.probe import compute_probe_accuracy
from sentiment.exceptions import require
from sentiment.inference.embeddings import compute_head_inputs
from sentiment.inference.fill_mask import MASK
from sentiment.models.model_folder import resolve_model
from sentiment.objectives import OBJECTIVES
from sentiment.pipelines.run import Run
from sentiment.reporting.adaptation_report import write_adaptation_report
from sentiment.reporting.model_cards import write_adapted_model_card
from sentiment.reporting.terminal import render_adaptation
from sentiment.runs.folder import ADAPTATION_STRATEGY
from sentiment.runs.lineage import KEYS_FILE
from sentiment.training.history import build_history, get_best_evaluation, summarize_resources
from sentiment.training.processes import run_on_main
from sentiment.training.trainer import SentimentTrainer

ARGUMENTS = (ModelArguments, CorpusArguments, AdaptationArguments)
LOGGED_STEPS = 200  # points of the loss curve
STREAM_EVALUATIONS = 5  # of a stream, which has no epochs
PROBE = "probe_accuracy"  # the accuracy of the probe: a metric of every objective
PROBE_TITLE = "accuracy of the probe"
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
    """Adapts an encoder to reviews, to unlabelled ones by masked language modelling unless `objective` says otherwise.

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
    """An adaptation, judged by its loss on held-out reviews and by a probe.

    Raises InputError for an unknown objective, and for options that it does not have.

    Args:
        strategy: what run.json calls it.
        model_args: the model that is adapted.
        data_args: the reviews.
        args: how to train.
        base_model: the model that was adapted, where `model_args` names the result (`verify_run`).
    """

    has_new_head = False

    def __init__(
        self,
        strategy: str,
        model_args: ModelArguments,
        data_args: CorpusArguments,
        args: AdaptationArguments,
        base_model: ModelArguments | None = None,
    ) -> None:
        super().__init__(strategy, model_args, data_args, args)
        name = args.objective
        require(name in OBJECTIVES, f"--objective {name}: choose among {', '.join(OBJECTIVES)}")
        self.objective = OBJECTIVES[name](args)
        self.objective.check_arguments()
        self.datasets = self.objective.list_datasets(data_args)
        self.base_model = base_model or model_args
        self.probe: ProbeData | None = None

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
        """Fingerprints of the texts; none of a stream, which would have to be read for them."""
        return self.objective.compute_fingerprints(self.data_args)

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
        self.probe = load_probe_data(self.data_args, self.args, tokenizer)
        require(
            self.probe is not None or self.args.metric_for_best_model != PROBE,
            f"--metric_for_best_model {PROBE}: the probe needs labelled reviews: name them with --target_dataset",
        )
        return self.objective.prepare_data(self.data_args, tokenizer)

    def load_model(self, data: Any, model_path: str, revision: str | None = None) -> PreTrainedModel:
        """The pretrained encoder with the head of the objective."""
        preprocessing = {name: getattr(self.data_args, name) for name in ("cleaning", "max_seq_length")}
        base, base_revision = self.base_model.model_name_or_path, self.base_model.model_revision
        self.objective.base_model = (resolve_model(base, base_revision), base_revision)
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
        head_warmup_ratio = args.head_warmup_share if self.has_new_head else 0.0
        if head_warmup_ratio:
            logger.warning("the head is new: only the head is trained in the first %.0f%%", 100 * head_warmup_ratio)
        elif head_warmup_ratio is None:
            logger.warning("the head is new: only the head is trained until its loss is flat")
        return {
            "train_dataset": data.train,
            "eval_dataset": self.objective.build_validation(data.validation, tokenizer),
            "data_collator": self.objective.build_collator(tokenizer, self.tracker),
            "head_warmup_ratio": head_warmup_ratio,
            "balances_labels": self.objective.balances_labels,
            "argument_changes": changes,
        }

    def build_trainer(self, model: PreTrainedModel, data: Any, tokenizer: PreTrainedTokenizerBase) -> SentimentTrainer:
        """The Trainer, whose evaluations fit the probe anew."""
        trainer = super().build_trainer(model, data, tokenizer)

        def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
            metrics = self.objective.compute_metrics(prediction)
            return metrics if self.probe is None else metrics | {PROBE: self.compute_probe(trainer, self.probe)}

        trainer.compute_metrics = compute_metrics
        return trainer

    def compute_probe(self, trainer: SentimentTrainer, probe: ProbeData) -> float:
        """The accuracy of the probe on the model as it is, in the number format of training."""
        model: Any = trainer.model

        def fit() -> float:
            with trainer.accelerator.autocast():
                features = [compute_head_inputs(model, ids) for ids in (probe.train_ids, probe.validation_ids)]
            return compute_probe_accuracy(features[0], probe.train_labels, features[1], probe.validation_labels)

        return run_on_main(fit)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The validation metrics that metrics.json keeps."""
        return (*self.objective.metric_names, *([] if self.probe is None else [PROBE]))

    def describe(self, data: AdaptationData, model_path: str) -> dict[str, Any]:
        """The data, and the rows of the probe."""
        return {
            "data": {
                "datasets": self.datasets,
                "fingerprints": data.fingerprints,
                "audit": data.audit,
                "probe": None if self.probe is None else self.probe.describe(),
            }
        }

    def evaluate(self, trainer: SentimentTrainer) -> dict[str, float]:
        """The validation metrics of the objective, and the accuracy of the probe."""
        logged = trainer.evaluate()
        return {name: logged[f"eval_{name}"] for name in self.metric_names}

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
            entry["validation"] = {name: entry["validation"][name] for name in self.metric_names}
        best = get_best_evaluation(trainer, history)
        texts = trainer.state.global_step * self.args.global_batch_size
        if isinstance(trainer.train_dataset, Dataset):
            texts = round(len(trainer.train_dataset) * (trainer.state.epoch or 0))  # the last batches may be smaller
        # The saved model, not the Trainer's: that one's forward pass keeps rounding to the precision of training.
        adapted, _ = self.objective.load_model(str(self.run_dir / "model"))
        answers = self.objective.answer_examples(adapted, tokenizer, before["examples"])
        objective = self.objective.describe(adapted.config)
        if self.probe is not None:
            objective["metrics"] = objective["metrics"] | {PROBE: PROBE_TITLE}
        if objective["hub_example"] and tokenizer.mask_token:
            objective["hub_example"] = objective["hub_example"].replace(MASK, tokenizer.mask_token)
        resources = summarize_resources(trainer, texts, trainer.state.num_input_tokens_seen)
        return {
            "objective": objective,
            "validation": {"before": before["metrics"], "after": best["validation"]},
            "history": history,
            "best_epoch": best["epoch"],
            "best_step": best["step"],
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
