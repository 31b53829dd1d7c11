"""Contrastive learning through the pooler: SimCSE, with hard negatives of reversed sentiment if asked for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import DEFAULT_STRENGTH, AdaptationArguments, CorpusArguments
from sentiment.data.adaptation_data import AdaptationData
from sentiment.data.augmentation import AUGMENTATIONS, Example, Material
from sentiment.data.augmentation.sentiment_reversal import reverse_sentiment
from sentiment.data.languages import choose_language, is_english
from sentiment.evaluation.similarity import (
    compute_alignment,
    compute_retrieval_accuracy,
    compute_reversal_accuracy,
    compute_uniformity,
    find_nearest,
)
from sentiment.exceptions import require, suggest_name
from sentiment.inference.embeddings import compute_head_inputs, load_encoder
from sentiment.models.contrastive import PooledEncoder, has_dropout, load_contrastive_encoder
from sentiment.models.contrastive_losses import compute_info_nce
from sentiment.objectives.objective import Description, Objective
from sentiment.training.batches import EpochTracker
from sentiment.training.views import (
    NEGATIVE,
    ChangeText,
    ContrastiveCollator,
    add_static_views,
    encode_changed,
)

VALIDATION_TEXTS = 2_000  # at most as many are compared with each other
EXAMPLES = 20
# Kinds of augmentation that change words and need nothing but the text.
VIEWS = [name for name, kind in AUGMENTATIONS.items() if kind.unit == "words" and name != "masked_lm"]
REVERSAL_METRIC = {"reversal_accuracy": "share closer to the own view than to the reversed text"}


class Contrast(Objective):
    """What all objectives through the pooler share."""

    smallest_batch: ClassVar[int] = 2

    def check_arguments(self) -> None:
        """Raises InputError for options that the objective does not have, and for batches without negatives."""
        super().check_arguments()
        args = self.args
        name, size = f"--objective {args.objective}", args.global_batch_size or 0
        require(
            args.gradient_accumulation_steps == 1,
            f"--gradient_accumulation_steps {args.gradient_accumulation_steps}: with {name}, the texts of a batch are "
            "each other's negatives, so it cannot be divided: lower --batch_size",
        )
        smallest = max(self.smallest_batch, 2 * args.world_size)
        require(size >= smallest, f"--batch_size {size}: {name} needs {smallest} or more")

    def require_english(self, language: str, option: str) -> None:
        """Raises InputError for texts in another language than that of the word lists that an option needs."""
        require(
            is_english(language),
            f"{option}: the word lists are English, and the texts are not; if they are, pass --language en",
        )

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:  # noqa: ARG002
        """Up to 20 texts, whose nearest other one is looked for among all of these."""
        self.pool = list(texts)
        return [{"text": text} for text in self.pool[:EXAMPLES]]

    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The nearest other text of each, and the cosine similarity of the pooler's outputs."""
        embeddings = compute_head_inputs(model, encode_changed(self.pool, tokenizer))
        places, similarities = find_nearest(embeddings, embeddings, excludes_self=True)
        return [[(self.pool[places[row]], float(similarities[row]))] for row in range(len(examples))]


class AugmentedView:
    """Another view of a text: one of these kinds of augmentation, the first of them in random order that changes it."""

    def __init__(self, names: Sequence[str], language: str) -> None:
        material = Material([], [], language)
        self._kinds = [AUGMENTATIONS[name](DEFAULT_STRENGTH, material) for name in names]

    def __call__(self, text: str, generator: np.random.Generator) -> str | None:
        """The view, or None where no kind can change the text."""
        for place in generator.permutation(len(self._kinds)).tolist():
            changed = self._kinds[place].augment(Example(text, 0), generator)
            if changed is not None:
                return changed.text
        return None


class ContrastiveLearning(Contrast):
    """Two views of a text have similar pooler outputs: SimCSE, Gao et al. 2021 (arXiv:2104.08821).

    In training the views differ in dropout, and with `--contrastive_positives` in words; in validation in deleted
    tokens, so that they are the same for every evaluation. With `--contrastive_target mean`, the mean of the frozen
    original's tokens takes the place of the other view, which teaches the pooler what that mean knows.
    """

    options = frozenset({"contrastive_target", "contrastive_positives", "hard_negatives", "temperature"})
    description = Description(
        name="contrastive learning",
        loss_unit="nats per text",
        metrics={
            "loss": "InfoNCE loss per text (nats)",
            "accuracy": "share whose own view is nearest",
            "alignment": "alignment",
            "uniformity": "uniformity",
        },
        main_metric="accuracy",
        formats={"accuracy": ".1%", "reversal_accuracy": ".1%"},
        metrics_note="The other view of a held-out text lacks a tenth of its tokens; in training it differs in "
        "dropout, or in words with contrastive_positives. Alignment is the mean squared distance of a text and its "
        "other view, uniformity the logarithm of the mean of exp(-2 d²) over distances of different texts (Wang & "
        "Isola 2020): lower is better for both.",
        counted="compared_texts",
        examples_title="Nearest texts",
        examples_note="Held-out reviews, the most similar other one by the pooler's output, and their cosine "
        "similarity.",
        hub_tag="sentence-embedding",
    )

    def __init__(self, args: AdaptationArguments) -> None:
        super().__init__(args)
        self.language = "und"  # of the texts
        if self.targets_mean:
            note = (
                "A text is compared with the mean of the original model's tokens, its own and those of others. "
                "Alignment is the mean squared distance of both, uniformity the logarithm of the mean of exp(-2 d²) "
                "over distances of different texts (Wang & Isola 2020): lower is better for both."
            )
            titles = self.description.metrics | {"accuracy": "share whose own mean of tokens is nearest"}
            self.description = replace(self.description, metrics=titles, metrics_note=note)
        if args.hard_negatives:
            titles = self.description.metrics | REVERSAL_METRIC
            self.description = replace(self.description, metrics=titles)

    @property
    def targets_mean(self) -> bool:
        """Whether the frozen original's mean of tokens takes the place of the other view."""
        return self.args.contrastive_target == "mean"

    @property
    def needs_texts(self) -> bool:
        """Whether words are to be changed."""
        return self.args.hard_negatives or bool(self.args.contrastive_positives)

    def check_arguments(self) -> None:
        """Raises InputError for options that the objective does not have, and for kinds that cannot make views."""
        super().check_arguments()
        positives = self.args.contrastive_positives
        for name in positives:
            require(
                name in VIEWS,
                f"--contrastive_positives {name}: choose from {', '.join(VIEWS)}{suggest_name(name, VIEWS)}",
            )
        require(
            not (positives and self.targets_mean),
            f"--contrastive_positives {' '.join(positives)}: --contrastive_target mean has no other view: omit one",
        )

    def prepare_data(self, data_args: CorpusArguments, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """Its texts; raises InputError for word lists of another language than theirs."""
        data = super().prepare_data(data_args, tokenizer)
        self.language = choose_language(data_args.language, data.held_out_texts)
        if english := [name for name in self.args.contrastive_positives if AUGMENTATIONS[name].is_english]:
            self.require_english(self.language, f"--contrastive_positives {' '.join(english)}")
        if self.args.hard_negatives:
            self.require_english(self.language, "--hard_negatives")
        return data

    @property
    def reverse(self) -> ChangeText | None:
        """What makes hard negatives; None for none."""
        return reverse_sentiment if self.args.hard_negatives else None

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with its pooler."""
        model = load_contrastive_encoder(model_path, preprocessing=preprocessing, revision=revision)
        self.set_up(model, model_path)
        return model, False

    def set_up(self, model: PooledEncoder, model_path: str) -> None:
        """Gives the model its temperature and its frozen encoder; raises InputError if views would be equal."""
        model.temperature = self.args.temperature
        if self.targets_mean:
            model.set_teacher(load_encoder(*(self.base_model or (model_path, None))))
            return
        require(
            has_dropout(model.config) or bool(self.args.contrastive_positives),
            f"--objective {self.args.objective}: {model_path} has no dropout, so that both views of a text would be "
            "equal: pass --contrastive_positives delete, --contrastive_target mean, or a model with dropout",
        )

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        """A collator that makes hard negatives anew in each epoch."""
        names = self.args.contrastive_positives
        augment = AugmentedView(names, self.language) if names else None
        return ContrastiveCollator(tokenizer, self.reverse, self.args.seed, tracker, augment)

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Up to 2,000 of the texts with static views; raises InputError if no sentiment can be reversed."""
        views = add_static_views(sample_texts(texts, self.args.seed), tokenizer, self.reverse, self.args.seed)
        require(
            self.reverse is None or any(views[NEGATIVE]),
            "--hard_negatives: no validation text has a sentiment that can be reversed",
        )
        return views

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss, retrieval accuracy, alignment and uniformity of the held-out texts."""
        return self.compare_embeddings(*prediction.predictions)

    def compare_embeddings(self, keys: np.ndarray, *embeddings: np.ndarray) -> dict[str, float]:
        """The metrics from anchors, positives and, if there are any, hard negatives and which rows have one."""
        order = np.argsort(keys, kind="stable")  # whatever the batches were
        keys = keys[order]
        anchors, positives, *hard = (part[order] for part in embeddings)
        negatives, has_negative = hard if hard else (None, None)
        losses = compute_group_losses(
            self.args.global_batch_size or len(keys), self.args.temperature, keys, anchors, positives, *hard
        )
        metrics = {
            "loss": float(losses.mean()),
            "accuracy": compute_retrieval_accuracy(anchors, positives, keys),
            "alignment": compute_alignment(anchors, positives),
            "uniformity": compute_uniformity(anchors),
            "compared_texts": len(keys),
        }
        if negatives is not None and has_negative is not None:
            rows = has_negative.astype(bool)
            metrics["reversal_accuracy"] = compute_reversal_accuracy(anchors[rows], positives[rows], negatives[rows])
        return metrics


def compute_group_losses(size: int, temperature: float, *parts: np.ndarray) -> np.ndarray:
    """The InfoNCE loss of each row among those of its group.

    `parts` are keys, anchors, positives and, if there are any, hard negatives and which rows have one.
    """
    losses = []
    for start, end in split_groups(len(parts[0]), size):
        keys, anchors, positives, *hard = (torch.from_numpy(np.ascontiguousarray(part[start:end])) for part in parts)
        negatives, has_negative = hard or (None, None)
        losses.append(compute_info_nce(anchors, positives, keys, temperature, negatives, has_negative).numpy())
    return np.concatenate(losses)


def split_groups(count: int, size: int) -> Iterable[tuple[int, int]]:
    """Start and end of groups of as many rows as a batch of training has, so that losses can be compared.

    The last group is joined to the one before: with fewer negatives, its loss would be lower.

    >>> [*split_groups(11, 4)]
    [(0, 4), (4, 11)]
    """
    return pairwise([*range(0, max(1, count - size + 1), size), count])


def sample_texts(texts: Dataset, seed: int) -> Dataset:
    """At most 2,000 of the texts, at random, in their order."""
    if len(texts) <= VALIDATION_TEXTS:
        return texts
    chosen = np.random.default_rng(seed).choice(len(texts), VALIDATION_TEXTS, replace=False)
    return texts.select(np.sort(chosen))
