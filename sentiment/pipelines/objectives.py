"""What an adaptation trains for: one class per objective, and the table that `--objective` chooses from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments
from sentiment.exceptions import require
from sentiment.inference.fill_mask import MASK, fill_masks, mask_words
from sentiment.models.masked_lm import IGNORE_INDEX, load_masked_lm
from sentiment.training.batches import EpochTracker
from sentiment.training.masking import SeededMaskingCollator, apply_static_masking

MAX_EXPONENT = 700.0  # of a float


@dataclass(frozen=True)
class Description:
    """What reports and model cards say about an objective; metrics.json holds it as `objective`."""

    name: str  # in words, after "adapted by"
    loss_unit: str
    metrics: dict[str, str]  # titles in the order of tables, `loss` first
    main_metric: str  # shown beside the loss, in the progress bar too
    formats: dict[str, str] = field(default_factory=dict)  # of metrics that are not shown with 4 decimals
    metrics_note: str = ""  # a sentence that explains the metrics
    counted: str | None = None  # key of what the metrics are means over, such as `masked_tokens`
    implausible_loss: float | None = None  # a validation loss below it is warned about
    implausible_loss_hint: str = ""  # what to check then
    examples_title: str = "Examples"
    examples_note: str = ""  # a sentence on what the examples show
    hub_tag: str | None = None
    hub_task: str = "feature-extraction"
    hub_example: str | None = None  # an input for transformers' pipeline of that task


class Objective(ABC):
    """Model, data, metrics and description of an objective.

    Texts are token ids with `special_tokens_mask` and `length`. The contract with training and fine-tuning:

    - In evaluation mode, `prediction.predictions` of `compute_metrics` are all outputs of the model but `loss`, in
      order, each concatenated over the batches: its first dimension must be the rows.
    - The model saves its encoder as transformers' own classes do, with the pooler if the classifier has one, so that
      `load_classifier` finds both (see `PlainCheckpointMixin`), and gives its head no name of the classifier's head.
    """

    description: ClassVar[Description]
    needs_mask_token = False

    def __init__(self, args: AdaptationArguments) -> None:
        self.args = args

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of `compute_metrics` that metrics.json keeps."""
        counted = self.description.counted
        return (*self.description.metrics, *([counted] if counted else []))

    def describe(self, config: PreTrainedConfig) -> dict[str, Any]:
        """The `objective` of metrics.json."""
        return asdict(self.description) | {"num_classes": self.count_classes(config)}

    def count_classes(self, config: PreTrainedConfig) -> int | None:  # noqa: ARG002
        """The n of ln(n), the loss of a uniform distribution, with which a new head starts; None if there is none."""
        return None

    @abstractmethod
    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with the head of the objective, and whether that head is new."""

    @abstractmethod
    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        """The collator of training and validation batches; what is random in it depends on seed and epoch alone."""

    @abstractmethod
    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The validation texts, the same for every evaluation."""

    @abstractmethod
    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """The validation metrics; `loss`, which chooses the best checkpoint, must be among them."""

    @abstractmethod
    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Examples for the report, from held-out texts: `text`, and `word`, the right answer."""

    @abstractmethod
    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The model's answers to each example with their probabilities, most probable first."""


class MaskedLanguageModeling(Objective):
    """The objective of BERT and most encoders: dynamic masks for training, static ones for validation."""

    needs_mask_token = True
    description = Description(
        name="masked language modelling",
        loss_unit="nats per masked token",
        metrics={
            "loss": "loss per masked token (nats)",
            "perplexity": "perplexity",
            "accuracy": "accuracy of masked tokens",
        },
        main_metric="perplexity",
        formats={"perplexity": ",.1f"},
        metrics_note="A perplexity is that of a uniform choice among as many tokens.",
        counted="masked_tokens",
        implausible_loss=0.1,  # far below the entropy of masked text
        implausible_loss_hint="Labels must be set at masked positions only, and be the original tokens; a plausible "
        "loss for BERT-base on reviews is 1.5 to 3.",
        examples_title="Filled masks",
        examples_note="Held-out reviews with one masked token, and the most probable tokens by the model.",
        hub_tag="masked-language-model",
        hub_task="fill-mask",
        hub_example=f"a very {MASK} film",
    )

    def count_classes(self, config: PreTrainedConfig) -> int:
        """The size of the vocabulary."""
        return int(config.vocab_size)

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[PreTrainedModel, bool]:
        """The pretrained encoder with a masked-language-model head."""
        return load_masked_lm(model_path, preprocessing, revision)

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> SeededMaskingCollator:
        """A collator that masks anew in each epoch."""
        return SeededMaskingCollator(tokenizer, self.args.mlm_probability, self.args.seed, tracker)

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The texts with static masks; raises InputError if no token is masked."""
        masked = apply_static_masking(texts, tokenizer, self.args.mlm_probability, self.args.seed)
        require(
            any(label != IGNORE_INDEX for labels in masked["labels"] for label in labels),
            "no token of the validation texts is masked: pass more or longer reviews",
        )
        return masked

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Loss (nats per masked token), perplexity, and accuracy at masked tokens, from the sums of each row.

        The Trainer's own loss is a mean over batches, in which a masked token of a short batch has more weight.
        """
        losses, correct, masked = (np.asarray(values, dtype=np.float64).sum() for values in prediction.predictions)
        loss = float(losses / masked)
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, MAX_EXPONENT)),
            "accuracy": float(correct / masked),
            "masked_tokens": int(masked),
        }

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Texts in which one word is masked: `text` and `word`."""
        return list(mask_words(texts, tokenizer, seed=self.args.seed))

    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The most probable words for each mask."""
        return fill_masks(model, tokenizer, [example["text"] for example in examples])


OBJECTIVES: dict[str, type[Objective]] = {"mlm": MaskedLanguageModeling}
