"""Training to its end, from the newest intact checkpoint if asked to."""

import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerState, TrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME

from sentiment.config.arguments import RunArguments
from sentiment.environment import is_main_process
from sentiment.exceptions import DivergenceError, InputError, SaveError, first_line, is_disk_full, require
from sentiment.storage import write_json
from sentiment.training.checkpoints import (
    STATE_FILE,
    check_world_size,
    find_last_checkpoint,
    find_problem,
    is_training_complete,
    list_checkpoints,
    quarantine_checkpoints,
    read_state,
    remove_incomplete_checkpoints,
)
from sentiment.training.hardware import raise_malloc_thresholds
from sentiment.training.history import get_epoch_timer
from sentiment.training.processes import PeriodicCheckpointCallback, SignalListener, run_on_main
from sentiment.training.progress import BarProgressCallback, LineProgressCallback
from sentiment.training.trainer import SentimentTrainer

DIVERGENCE_FILE = "divergence.json"


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
            if isinstance(callback, (BarProgressCallback, LineProgressCallback)):
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
    unusable: dict[Path, str] = {}
    with training_args.main_process_first(local=True, desc="checkpoints"):
        if training_args.local_process_index == 0:
            remove_incomplete_checkpoints(folder)
        if args.resume_from_checkpoint:
            checkpoint = Path(args.resume_from_checkpoint)
            require(
                checkpoint.resolve().parent == folder.resolve(),
                f"--resume_from_checkpoint {checkpoint}: not in {folder}; --model starts from its weights",
            )
            problem = find_problem(checkpoint)
            require(problem is None, f"--resume_from_checkpoint {checkpoint}: {problem}")
            if training_args.local_process_index == 0:
                step = read_state(checkpoint)["global_step"]
                newer = [path for number, path in list_checkpoints(folder).items() if number > step]
                quarantine_checkpoints(dict.fromkeys(newer, f"training goes back to {checkpoint.name}"))
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
    if is_main_process() and (checkpoint or unusable):  # else it is a new run, or has no checkpoint yet
        print(f"Resuming from {checkpoint or 'the beginning: no checkpoint is intact'}", file=sys.stderr)
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
