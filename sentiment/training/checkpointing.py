"""A Trainer whose checkpoints are whole or not there, and that goes on from them exactly."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import has_length

from sentiment.exceptions import SaveError, first_line
from sentiment.training.checkpoints import STAGING_DIR, finalize_checkpoint, rotate_checkpoints
from sentiment.training.divergence import GuardedTrainer


class CheckpointingTrainer(GuardedTrainer):
    """A Trainer that writes checkpoints aside and renames them when they are whole (`finalize_checkpoint`).

    Transformers writes each file where it belongs, so that a training that is cut off leaves a part of a checkpoint.
    A training that had been stopped early or was at its end when the checkpoint was written is not gone on with, where
    transformers would train another epoch.
    """

    _staging: Path | None = None

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._staging is None else str(self._staging)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Writes a checkpoint, and removes older ones.

        Raises:
            SaveError: it cannot be written; what there is of it is removed, and the older ones are as they were.
            DivergenceError: the weights are not worth it.
        """
        self.check_weights()
        folder = Path(super()._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        self._staging = folder / STAGING_DIR
        try:
            if self.args.should_save:
                shutil.rmtree(self._staging, ignore_errors=True)
                (self._staging / name).mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            self._staging = None
            self._point_to_best(None)
            if self.args.should_save:
                staged = folder / STAGING_DIR / name
                # Again, without the path of the best one, which is found by its step: a folder may be moved.
                self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
                finalize_checkpoint(staged, folder / name)
                (folder / STAGING_DIR).rmdir()
                rotate_checkpoints(folder, self.args.save_total_limit or 1)
            self._point_to_best(folder)
            self.accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(folder / STAGING_DIR, ignore_errors=True)
            raise SaveError(f"cannot write {folder / name}: {first_line(error)}", folder) from error
        finally:
            self._staging = None

    def _point_to_best(self, folder: Path | None) -> None:
        """Tells the Trainer where the checkpoint of the best step is; nowhere without a folder."""
        best = self.state.best_global_step
        self.state.best_model_checkpoint = str(folder / f"checkpoint-{best}") if folder and best else None

    def _init_training_state(
        self, max_steps: int, steps_in_epoch: int, num_train_epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        """Whole epochs and batches of the next one that were trained on already; all epochs where nothing is left."""
        trained = super()._init_training_state(max_steps, steps_in_epoch, num_train_epochs, checkpoint, trial)
        if checkpoint is None:
            return trained
        self._point_to_best(Path(checkpoint).parent)
        if self.control.should_training_stop:
            return num_train_epochs, 0
        if not has_length(self.train_dataset):  # transformers takes a stream for one epoch, however often it ended
            assert self.state.epoch is not None
            steps = round(self.state.epoch % 1 * max_steps)
            return int(self.state.epoch), steps * self.args.gradient_accumulation_steps
        return trained
