"""The Trainer's order of texts, with less padding."""

import torch
from datasets import Dataset
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from sentiment.length_groups import ShuffledGroupsSampler


class LengthGroupedTrainer(Trainer):
    """A Trainer whose `train_sampling_strategy="group_by_length"` means batches of `group_by_length`."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> torch.utils.data.Sampler[int] | None:
        """Transformers' sampler, in our order where it groups by length.

        Batches of several processes are taken from one group, so that none waits for another's longer texts.
        """
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return ShuffledGroupsSampler(sampler.batch_size * self.args.world_size, lengths=sampler.lengths[:])
        return sampler
