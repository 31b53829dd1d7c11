"""The skeleton that every run shares: lock, prepare data, build model and trainer, train, evaluate, record, report.

`FinetuningRun` and `AdaptationRun` say what differs.
"""

import os
import pickle
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate.utils import broadcast_object_list
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import load_file
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from sentiment.config.arguments import (
    CorpusArguments,
    DataArguments,
    ModelArguments,
    RunArguments,
    collect_options,
    list_changed_options,
)
from sentiment.environment import is_main_process
from sentiment.exceptions import DivergenceError, InputError, SaveError, first_line, is_disk_full, require
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import get_model_revision, resolve_model
from sentiment.runs.folder import DIVERGENCE_FILE, check_same_data, lock_run_dir, remove_previous_run
from sentiment.runs.record import build_run_record, load_finished_metrics, merge_previous_record
from sentiment.storage import compute_sha256, read_json, replace_folder, write_json
from sentiment.training.batches import EpochTracker
from sentiment.training.callbacks import EpochProgressCallback, EpochTimerCallback
from sentiment.training.checkpoints import (
    STATE_FILE,
    check_world_size,
    find_corruption,
    find_last_checkpoint,
    is_training_complete,
    quarantine_checkpoints,
    remove_incomplete_checkpoints,
)
from sentiment.training.hardware import limit_onednn_caches, raise_malloc_thresholds, use_all_cores
from sentiment.training.history import get_epoch_timer
from sentiment.training.signals import PeriodicCheckpointCallback, SignalListener
from sentiment.training.trainer import SentimentTrainer, check_max_seq_length

Result = TypeVar("Result")


class Run(ABC):
    """One training run, from options to a folder with model, metrics and report.

    Args:
        strategy: what run.json calls it.
        model_args: the pretrained model.
        data_args: the data.
        args: how to train.
    """

    progress_metric: str

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
        self.options = collect_options(model_args, data_args, args)
        self.tracker = EpochTracker()

    @abstractmethod
    def compute_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the data as it is now, by split."""

    @abstractmethod
    def prepare_data(self, tokenizer: PreTrainedTokenizerBase) -> Any:
        """The data, with `fingerprints` and an `audit`, from the cache of `datasets` if it is there."""

    @abstractmethod
    def load_model(self, model_path: str, revision: str | None = None) -> PreTrainedModel:
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
            run_on_main(lambda: stack.enter_context(lock_run_dir(self.run_dir)))
            finished = run_on_main(
                lambda: load_finished_metrics(self.run_dir, self.options, self.args, self.compute_fingerprints)
            )
            metrics = self.train() if finished is None else finished
            if self.args.push_to_hub:
                run_on_main(lambda: push_model(self.run_dir, self.args))
            return metrics

    def train(self) -> dict[str, Any]:
        """The metrics of a run whose folder is locked and holds no finished run."""
        started = time.perf_counter()
        use_all_cores(self.args.world_size)
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
        description = self.describe(data, model_path)
        model = self.load_model(model_path, revision)
        check_max_seq_length(self.data_args.max_seq_length, model.config.max_position_embeddings)
        trainer = self.build_trainer(model, data, tokenizer)
        changed = list_changed_options(self.model_args, self.data_args, self.args)
        record = build_run_record(self.strategy, self.options, changed, model, trainer.args) | description
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
            trainer.add_callback(EpochProgressCallback(self.progress_metric))
        if len(report_to) < len(self.args.report_to) and is_main_process():
            from torch.utils.tensorboard import SummaryWriter

            trainer.add_callback(TensorBoardCallback(SummaryWriter(str(self.run_dir / "tensorboard"))))
        return trainer


def run_on_main(function: Callable[[], Result]) -> Result:
    """The result of a function that the main process calls, in all processes; an error is raised in all of them.

    Other nodes need no access to the main process's disk. The result must be picklable.
    """
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome = [function(), None]
        except InputError as failure:
            failure.is_on_all_ranks = True
            outcome = [None, failure]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        outcome = broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        raise error
    return cast(Result, result)


def train_with_resume(trainer: SentimentTrainer, args: RunArguments) -> None:
    """Trains to the end, from the newest intact checkpoint if `--resume` asks for it and there is one.

    Raises:
        TrainingInterrupted: SIGINT or SIGTERM; a checkpoint is saved.
        DivergenceError: a loss or gradient is not finite; earlier checkpoints are kept.
        SaveError: the disk is full; earlier checkpoints are kept.
        InputError: the checkpoint cannot be used.
    """
    if not torch.cuda.is_available():
        raise_malloc_thresholds()
    checkpoint = choose_resume_checkpoint(trainer.args, args)
    folder, divergence_file = Path(str(trainer.args.output_dir)), Path(args.output_dir) / DIVERGENCE_FILE
    if is_main_process():
        divergence_file.unlink(missing_ok=True)  # of an earlier attempt
    try:
        if checkpoint and is_training_complete(checkpoint):
            restore_complete_training(trainer, checkpoint)
            return
        with SignalListener() as signals:
            trainer.add_callback(PeriodicCheckpointCallback(signals, args.save_minutes))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except pickle.UnpicklingError as error:  # intact by its manifest, but not what torch.save writes of tensors
        raise InputError(f"cannot resume from {checkpoint}: {first_line(error)}") from error
    except DivergenceError as error:
        if is_main_process():
            write_json(divergence_file, error.details)
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        remove_incomplete_checkpoints(folder)
        name = f"checkpoint-{trainer.state.global_step}"
        raise SaveError(f"cannot write {folder / name}: {first_line(error)}", folder) from error
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, EpochProgressCallback):
                callback.close()


def choose_resume_checkpoint(training_args: TrainingArguments, args: RunArguments) -> Path | None:
    """The checkpoint to resume from, or None, the same step in all processes.

    Incomplete checkpoints of this node are removed, and corrupted ones moved out of the way.

    Raises:
        InputError: it is of another number of processes, or missing on one of the nodes.
    """
    folder = Path(str(training_args.output_dir))
    if not args.resume:
        return None
    checkpoint: Path | None = None
    with training_args.main_process_first(local=True, desc="checkpoints"):
        if training_args.local_process_index == 0:
            remove_incomplete_checkpoints(folder)
        if args.resume_from_checkpoint:
            checkpoint = Path(args.resume_from_checkpoint)
            problem = find_corruption(checkpoint)
            require(problem is None, f"--resume_from_checkpoint {checkpoint}: {problem}")
        else:
            checkpoint, unusable = find_last_checkpoint(folder)
            if training_args.local_process_index == 0:
                quarantine_checkpoints(unusable)
    chosen = run_on_main(lambda: checkpoint and checkpoint.name)
    if chosen is not None:
        if checkpoint is None or checkpoint.name != chosen:
            raise InputError(
                f"{folder} has no intact {chosen} on this node: train with --save_on_each_node, or on a shared disk"
            )
        check_world_size(checkpoint, training_args.world_size)
    if is_main_process():
        start = "the beginning: there is no intact checkpoint" if checkpoint is None else checkpoint
        print(f"Resuming from {start}", file=sys.stderr)
    return checkpoint if chosen is not None else None


def restore_complete_training(trainer: SentimentTrainer, checkpoint: Path) -> None:
    """Gives the trainer the state and the best weights of a training that had ended when the checkpoint was saved.

    Transformers would train another epoch: the request to stop is not part of what it resumes.
    """
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE_FILE))
    timer = get_epoch_timer(trainer)
    stored: Any = trainer.state.stateful_callbacks
    for name, value in stored[type(timer).__name__]["attributes"].items():
        setattr(timer, name, value)
    best = checkpoint.parent / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.model is not None
    result = trainer.model.load_state_dict(load_file(best / SAFE_WEIGHTS_NAME), strict=False)  # tied weights are once
    assert not result.unexpected_keys, result.unexpected_keys


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
    except (HfHubHTTPError, OSError, ValueError) as error:
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
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(f"--push_to_hub: cannot upload to {repo_id}: {first_line(error)}; run it again") from error
    print(f"Uploaded to {commit.commit_url}", file=sys.stderr)
