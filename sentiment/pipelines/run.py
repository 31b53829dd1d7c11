"""The skeleton that every run shares: lock, prepare data, build model and trainer, train, evaluate, record, report.

`FinetuningRun` and `AdaptationRun` say what differs.
"""

import shutil
import sys
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    set_seed,
)
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from sentiment.config.arguments import CorpusArguments, DataArguments, ModelArguments, RunArguments
from sentiment.config.recorded_options import collect_options, list_changed_options
from sentiment.data.sources import check_data_files
from sentiment.environment import choose_precision, is_main_process
from sentiment.exceptions import InputError, SaveError, first_line, is_disk_full
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import count_positions, get_model_revision, resolve_model
from sentiment.runs.folder import check_same_data, lock_run_dir, remove_checkpoints, remove_previous_run
from sentiment.runs.record import build_run_record, load_finished_metrics, merge_previous_record
from sentiment.storage import compute_sha256, read_json, replace_folder, write_json
from sentiment.training.batches import EpochTracker
from sentiment.training.callbacks import EpochTimerCallback
from sentiment.training.hardware import limit_onednn_caches, use_all_cores
from sentiment.training.processes import run_on_main
from sentiment.training.progress import build_progress_callback
from sentiment.training.resume import train_with_resume
from sentiment.training.trainer import SentimentTrainer, check_max_seq_length, check_precision


class Run(ABC):
    """One training run, from options to a folder with model, metrics and report.

    Args:
        strategy: what run.json calls it.
        model_args: the pretrained model.
        data_args: the data.
        args: how to train.
    """

    def __init__(
        self,
        strategy: str,
        model_args: ModelArguments,
        data_args: DataArguments | CorpusArguments,
        args: RunArguments,
    ):
        self.strategy = strategy
        self.model_args = model_args
        self.data_args: Any = data_args
        self.args: Any = args
        self.run_dir = Path(args.output_dir)
        self.changed_options = list_changed_options(model_args, data_args, args)
        self.complete_arguments()
        self.options = collect_options(model_args, data_args, args)
        self.tracker = EpochTracker()

    @abstractmethod
    def complete_arguments(self) -> None:
        """Sets options that are not given and do not depend on the rows."""

    @abstractmethod
    def choose_arguments(self, data: Any) -> dict[str, Any]:
        """Sets options that are not given and depend on the rows, and returns them by name."""

    @property
    @abstractmethod
    def progress_metric(self) -> str:
        """The metric of the progress bar."""

    @abstractmethod
    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the data as it is now, by split."""

    @abstractmethod
    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> Any:
        """The data, with `fingerprints` and an `audit`, from the cache of `datasets` if it is there."""

    @abstractmethod
    def load_model(self, data: Any, model_path: str, revision: str | None = None) -> PreTrainedModel:
        """The model to train."""

    @abstractmethod
    def get_trainer_options(self, data: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Arguments of the Trainer: datasets, collator, metrics, callbacks."""

    @abstractmethod
    def describe(self, data: Any, model_path: str) -> dict[str, Any]:
        """What run.json says beside the options; raises InputError if the run may not be made."""

    @abstractmethod
    def evaluate_before(self, trainer: SentimentTrainer, data: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
        """What is measured before training; called in all processes."""

    @abstractmethod
    def summarize(
        self, trainer: SentimentTrainer, data: Any, tokenizer: PreTrainedTokenizerBase, before: Any
    ) -> dict[str, Any]:
        """The metrics of the finished run, from the saved model; called in the main process."""

    @abstractmethod
    def write_reports(
        self, record: dict[str, Any], metrics: dict[str, Any], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Writes the model card and the report."""

    @abstractmethod
    def check_model(self) -> None:
        """Raises InputError if the model is not ready to be trained on."""

    def execute(self) -> dict[str, Any]:
        """The run's metrics, as in its metrics.json; a finished run is not repeated.

        Raises:
            InputError: wrong data, model or options; nothing is written then.
            DivergenceError, SaveError, TrainingInterrupted: see `train_with_resume`.
        """
        with ExitStack() as stack:
            run_on_main(lambda: check_data_files(self.data_args))
            run_on_main(lambda: stack.enter_context(lock_run_dir(self.run_dir)))
            finished = run_on_main(
                lambda: load_finished_metrics(self.run_dir, self.options, self.args, self.compute_fingerprints)
            )
            metrics = self.train() if finished is None else finished
            if not self.args.keep_checkpoints and self.args.local_process_index == 0:  # each node may have its own
                remove_checkpoints(self.run_dir)
            if self.args.push_to_hub:
                run_on_main(lambda: push_model(self.run_dir, self.args))
            return metrics

    def train(self) -> dict[str, Any]:
        """The metrics of a run whose folder is locked and holds no finished run."""
        started = time.perf_counter()
        use_all_cores(self.args)
        limit_onednn_caches()
        set_seed(self.args.seed)
        if self.args.push_to_hub:
            run_on_main(lambda: create_hub_repo(self.args))
        self.check_model()
        revision = self.model_args.model_revision
        model_path = resolve_model(self.model_args.model_name_or_path, revision)
        revision = get_model_revision(model_path, revision)
        tokenizer = load_tokenizer(model_path, self.data_args.max_seq_length, revision)
        with self.args.main_process_first(desc="data"):
            data = self.prepare_data(tokenizer)
        if self.args.resume:
            run_on_main(lambda: check_same_data(self.run_dir, data.fingerprints))
        chosen = self.choose_arguments(data)
        description = self.describe(data, model_path)
        model = self.load_model(data, model_path, revision)
        check_max_seq_length(self.data_args.max_seq_length, count_positions(model.config.to_dict()))
        check_precision(model.config.model_type, choose_precision(self.args.requested_precision, self.args.use_cpu))
        trainer = self.build_trainer(model, data, tokenizer)
        record = (
            build_run_record(self.strategy, self.options | chosen, self.changed_options, model, trainer.args)
            | description
        )
        record["chosen_options"] = chosen
        record["model"]["revision"] = revision
        if is_main_process():
            if self.args.overwrite:
                remove_previous_run(self.run_dir)
            merge_previous_record(self.run_dir, record)
            write_json(self.run_dir / "run.json", record)
        before = self.evaluate_before(trainer, data, tokenizer)
        trainer.accelerator.wait_for_everyone()

        train_with_resume(trainer, self.args)
        if is_main_process():
            record["model"]["weights_sha256"] = save_model(model, tokenizer, self.run_dir / "model")
            metrics = self.summarize(trainer, data, tokenizer, before)
            record["seconds"] = time.perf_counter() - started
            record["peak_memory_mb"] = metrics["resources"]["peak_memory_mb"]
            write_json(self.run_dir / "run.json", record)
            self.write_reports(record, metrics, tokenizer)
            write_json(self.run_dir / "metrics.json", metrics)  # last: with it, the run is finished
        trainer.accelerator.wait_for_everyone()
        return run_on_main(lambda: read_json(self.run_dir / "metrics.json"))

    def build_trainer(self, model: PreTrainedModel, data: Any, tokenizer: PreTrainedTokenizerBase) -> SentimentTrainer:
        """The Trainer with what all runs share: timer, progress bar, TensorBoard in the run's folder."""
        options = self.get_trainer_options(data, tokenizer)
        report_to = [name for name in self.args.report_to if name != "tensorboard"]
        changes = options.pop("argument_changes", {}) | {"report_to": report_to}
        trainer = SentimentTrainer(
            model=model,
            args=self.args.build_trainer_arguments(**changes),
            processing_class=tokenizer,
            tracker=self.tracker,
            save_total_limit=self.args.save_total_limit,
            **options,
        )
        trainer.add_callback(EpochTimerCallback())
        trainer.remove_callback(ProgressCallback)
        if not self.args.disable_tqdm:
            trainer.add_callback(build_progress_callback(self.progress_metric, lambda: trainer.step_loss))
        if len(report_to) < len(self.args.report_to) and is_main_process():
            from torch.utils.tensorboard import SummaryWriter

            trainer.add_callback(TensorBoardCallback(SummaryWriter(str(self.run_dir / "tensorboard"))))
        return trainer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """Writes model and tokenizer to the folder, which is replaced as a whole; returns the SHA-256 of the weights.

    Raises:
        SaveError: the disk is full.
    """
    staged = folder.with_name(folder.name + ".part")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        for weights in staged.glob("*.safetensors"):  # safetensors lets only their owner read them
            shutil.copymode(staged / "config.json", weights)
        replace_folder(staged, folder)
    except Exception as error:
        shutil.rmtree(staged, ignore_errors=True)
        if not is_disk_full(error):
            raise
        raise SaveError(f"cannot write {folder}: {first_line(error)}", folder.parent) from error
    return compute_sha256(folder / SAFE_WEIGHTS_NAME)


def create_hub_repo(args: RunArguments) -> str:
    """The full name of the model repository on the Hub for `--push_to_hub`, created unless it exists.

    Raises:
        InputError: the Hub cannot be reached, or refuses.
    """
    name = args.hub_model_id or Path(args.output_dir).resolve().name
    try:
        return HfApi(token=args.hub_token).create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
    except Exception as error:  # of the HTTP client, the operating system or the Hub
        raise InputError(f"--push_to_hub: cannot create the repository {name}: {first_line(error)}") from error


def push_model(run_dir: Path, args: RunArguments) -> None:
    """Uploads the finished model with its config and model card.

    Raises:
        InputError: the Hub cannot be reached, or refuses; the run is finished, and the same command uploads it.
    """
    repo_id = create_hub_repo(args)
    try:
        commit = HfApi(token=args.hub_token).upload_folder(
            repo_id=repo_id,
            folder_path=run_dir / "model",
            commit_message="Model of a finished run",
            revision=args.hub_revision,
            ignore_patterns=["onnx/*"],
        )
    except Exception as error:  # of the HTTP client, the operating system or the Hub
        raise InputError(f"--push_to_hub: cannot upload to {repo_id}: {first_line(error)}; run it again") from error
    print(f"Uploaded to {commit.commit_url}", file=sys.stderr)
