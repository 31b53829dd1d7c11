"""What an objective of adaptation is: its data, model, collator and metrics, and what reports say about it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from datasets import Dataset
from transformers import EvalPrediction, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from sentiment.config.arguments import AdaptationArguments, CorpusArguments
from sentiment.data.adaptation_data import AdaptationData, load_training_corpus, prepare_adaptation_data
from sentiment.exceptions import require
from sentiment.training.batches import EpochTracker

# Options that some objectives have, and others refuse.
OPTIONS = ("mlm_probability", "mlm_weight", "contrastive_target", "hard_negatives", "temperature")


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
    texts: str = "unlabelled reviews"  # what it trains on
    examples_title: str = "Examples"
    examples_note: str = ""  # a sentence on what the examples show
    hub_tag: str | None = None
    hub_task: str = "feature-extraction"
    hub_example: str | None = None  # an input for transformers' pipeline of that task


class Objective(ABC):
    """Model, data, metrics and description of an objective.

    Texts are token ids with `special_tokens_mask` and `length`, and `text` if it is needed. The contract with training
    and fine-tuning:

    - In evaluation mode, `prediction.predictions` of `compute_metrics` are all outputs of the model but `loss`, in
      order, each concatenated over the batches: its first dimension must be the rows.
    - The model saves its encoder as transformers' own classes do, with the pooler if the classifier has one, so that
      `load_classifier` finds both (see `PlainCheckpointMixin`), and gives its head no name of the classifier's head.
    """

    description: Description
    needs_mask_token: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False  # those of the fine-tuning to come
    balances_labels: ClassVar[bool] = False  # whether batches have as many rows of each class, by the column `labels`
    options: ClassVar[frozenset[str]] = frozenset()  # those of `OPTIONS` that it has

    def __init__(self, args: AdaptationArguments) -> None:
        self.args = args
        self.base_model: tuple[str, str | None] | None = None  # path and revision of the model that is adapted

    def check_arguments(self) -> None:
        """Raises InputError for options that the objective does not have or cannot honour."""
        for name in OPTIONS:
            value, default = getattr(self.args, name), AdaptationArguments.__dataclass_fields__[name].default
            require(
                name in self.options or value == default,
                f"--{name} {value}: --objective {self.args.objective} has no such option",
            )

    @property
    def needs_texts(self) -> bool:
        """Whether texts are needed as text, beside their tokens."""
        return False

    def list_datasets(self, data_args: CorpusArguments) -> list[str]:
        """The names of the datasets that it trains on."""
        return data_args.dataset_name

    def compute_fingerprints(self, data_args: CorpusArguments) -> dict[str, str]:
        """Fingerprints of its texts as they are now; none of a stream, which would have to be read for them."""
        return {} if data_args.streaming else load_training_corpus(data_args, self.args.seed).fingerprints

    def prepare_data(self, data_args: CorpusArguments, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """Its texts without test texts, split and tokenized."""
        return prepare_adaptation_data(data_args, self.args, tokenizer, self.needs_texts)

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
        """Examples for the report, from held-out texts: `text`, and `word`, the right answer, if there is one."""

    @abstractmethod
    def answer_examples(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        """The model's answers to each example: with their probabilities, most probable first, if there is a right one.

        Else other texts with their similarities.
        """
