"""Supervised contrastive learning through the pooler, on the labelled rows of a training split."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import CorpusArguments
from sentiment.data.adaptation_data import AdaptationData, build_target_arguments
from sentiment.data.labelled_adaptation import compute_fingerprints, load_labelled_splits, prepare_labelled_data
from sentiment.evaluation.similarity import compute_class_alignment, compute_uniformity, find_nearest
from sentiment.exceptions import require
from sentiment.models.contrastive import SupervisedContrastiveEncoder, load_contrastive_encoder
from sentiment.models.contrastive_losses import compute_supervised_contrastive
from sentiment.objectives.contrastive import Contrast, split_groups
from sentiment.objectives.objective import Description
from sentiment.training.batches import EpochTracker
from sentiment.training.views import LabelledCollator

DEFAULT_DATASETS = CorpusArguments().dataset_name


class ClassContrast(Contrast):
    """Texts of one class have similar pooler outputs: SupCon, Khosla et al. 2020 (arXiv:2004.11362).

    Pairs are those of a batch, which has as many rows of each class. Subclasses give the rows their `labels`.
    """

    balances_labels = True
    smallest_batch = 4  # two rows of each of two classes
    options = frozenset({"temperature"})
    description = Description(
        name="supervised contrastive learning",
        loss_unit="nats per text",
        metrics={
            "loss": "supervised contrastive loss per text (nats)",
            "accuracy": "share whose nearest text has the same label",
            "alignment": "alignment of texts with the same label",
            "uniformity": "uniformity",
        },
        main_metric="accuracy",
        formats={"accuracy": ".1%"},
        metrics_note="Alignment is the mean squared distance of texts with the same label, uniformity the logarithm of "
        "the mean of exp(-2 d²) over distances of different texts (Wang & Isola 2020): lower is better for both.",
        counted="compared_texts",
        texts="labelled reviews of the training split",
        examples_title="Nearest texts",
        examples_note="Held-out reviews of the training split, the most similar other one by the pooler's output, and "
        "their cosine similarity.",
        hub_tag="sentence-embedding",
    )

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with its pooler."""
        model = load_contrastive_encoder(model_path, SupervisedContrastiveEncoder, preprocessing, revision)
        model.temperature = self.args.temperature
        return model, False

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        """A collator that pads texts."""
        return LabelledCollator(tokenizer, tracker=tracker)

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:  # noqa: ARG002
        """The held-out rows as they are."""
        return texts

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss, label accuracy of the nearest text, alignment and uniformity of the held-out rows, all compared."""
        keys, anchors = cast(tuple[np.ndarray, ...], prediction.predictions)
        order = np.argsort(keys, kind="stable")
        anchors, labels = anchors[order], np.asarray(prediction.label_ids)[order]
        losses, pairs = [], []
        for start, end in split_groups(len(labels), self.args.global_batch_size or len(labels)):
            rows, classes = (torch.from_numpy(np.ascontiguousarray(part[start:end])) for part in (anchors, labels))
            losses.append(compute_supervised_contrastive(rows, rows, classes, self.args.temperature))
            pairs.append((classes[:, None] == classes[None, :]).sum(dim=1) > 1)
        has_pair = torch.cat(pairs)  # without one, the loss is 0
        places, _ = find_nearest(anchors, anchors, excludes_self=True)
        return {
            "loss": float(torch.cat(losses)[has_pair].mean()) if has_pair.any() else 0.0,
            "accuracy": float((labels[places] == labels).mean()),
            "alignment": compute_class_alignment(anchors, labels),
            "uniformity": compute_uniformity(anchors),
            "compared_texts": len(labels),
        }


class SupervisedContrastiveLearning(ClassContrast):
    """Labelled texts of one class have similar pooler outputs.

    As SetFit (arXiv:2209.11055) it prepares a classifier with the labels that it is trained on next. It reads the
    training split of `--target_dataset` alone, of which it holds a part out, and of that no more than
    `--target_max_train_samples`.
    """

    reads_labels = True

    def list_datasets(self, data_args: CorpusArguments) -> list[str]:
        """The labelled dataset; raises InputError if there is none, or others are named for training."""
        name = f"--objective {self.args.objective}"
        require(not data_args.streaming, f"--streaming: {name} reads labelled rows, which are kept in memory")
        target = build_target_arguments(data_args)
        require(target is not None, f"{name} needs labelled reviews: name them with --target_dataset")
        assert target is not None
        require(
            data_args.dataset_name in (DEFAULT_DATASETS, [target.dataset_name]),
            f"--dataset {' '.join(data_args.dataset_name)}: {name} is trained on the labelled rows of --target_dataset "
            f"({target.dataset_name}) alone: omit --dataset",
        )
        return [target.dataset_name]

    def compute_fingerprints(self, data_args: CorpusArguments) -> dict[str, str]:
        """Fingerprints of the labelled rows as they are now."""
        return compute_fingerprints(load_labelled_splits(data_args, self.args))

    def prepare_data(self, data_args: CorpusArguments, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """The labelled rows, with a part of each class held out."""
        self.list_datasets(data_args)
        return prepare_labelled_data(data_args, self.args, tokenizer)
