"""Options of fine-tuning and adaptation, beside those that every run shares."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from transformers import TrainingArguments

from sentiment.config.data_arguments import (
    METRICS,
    CorpusArguments,
    DataArguments,
    ModelArguments,
    normalise_limit,
    option,
    require_at_least,
)
from sentiment.config.run_arguments import RunArguments, get_default
from sentiment.exceptions import InputError, require

# The other options of a run.
__all__ = ["CorpusArguments", "DataArguments", "ModelArguments", "RunArguments"]

DEFAULT_STRENGTH = 0.1  # of a kind of augmentation
AUTO = "auto"
NUMBER = re.compile(r"\d+(\.\d*)?(e-?\d+)?|\.\d+")


@dataclass
class FinetuningArguments(RunArguments):
    """Options of fine-tuning."""

    output_dir: str = option("outputs/e2e", "Folder of the run.")
    dropout: float = option(0.0, "Dropout before the last layer of the head.")
    adversarial_epsilon: float = option(
        0.0,
        "Adversarial training (FGM): a second pass with embeddings perturbed by this norm along the loss gradient. "
        "About twice the time; 0 turns it off.",
    )
    early_stopping_patience: int = option(
        3, "Evaluations without a better metric or validation loss before training stops."
    )
    metric_for_best_model: str = option(
        "accuracy",
        "Validation metric that chooses the best checkpoint and early stopping; f1, precision and recall are those of "
        "the second of two classes.",
        "--metric",
        choices=[*METRICS, "loss"],
    )
    target_accuracy: float = option(
        0.95, "Accuracy of answers for which the report names a score below which to abstain, chosen on validation."
    )
    baselines: bool = option(
        True, "Fit logistic regressions on TF-IDF and frozen embeddings, which the report compares with the model."
    )
    class_weights: str = option(
        "none",
        "Weights of the classes in the training loss. balanced: inverse to their training rows. Or numbers, in the "
        "order of the classes, separated by commas.",
    )
    augmentation: dict | str | None = option(  # type: ignore[type-arg]
        None,
        "Kinds of augmentation of the training texts, drawn anew in each epoch, with strengths (default 0.1), such as "
        "synonym=0.1,typo=0.05,contrast=0.2; in a run.yaml, a mapping. A strength is the share of a text's words for "
        "synonym, insert, delete, swap (EDA), punctuation (AEDA), typo and masked_lm (words of the start model), and "
        "the share of an epoch's rows for contrast ('although A, B' of two texts) and sentiment_swap (antonyms and "
        "negations, label reversed).",
    )
    augmented_share: float = option(
        0.5, "Share of an epoch's rows that get one of the kinds of --augmentation that change words, in equal parts."
    )
    rdrop_alpha: float = option(
        0.0, "R-Drop: weight of the KL divergence between two dropout passes. Twice the time; 0 turns it off."
    )
    linear_probe_first: bool = option(
        False, "LP-FT: fit the head alone on the frozen encoder's features first, with logistic regression, in seconds."
    )
    consistency_weight: float = option(
        0.0,
        "UDA: weight of the KL divergence between unlabelled texts and their augmented views; needs "
        "--unlabelled_dataset and --augmentation. 0 turns it off.",
    )
    consistency_temperature: float = option(0.4, "Temperature that sharpens the targets of --consistency_weight.")
    consistency_threshold: float = option(
        0.8, "Probability above which the prediction for an unlabelled text is a target of --consistency_weight."
    )
    self_training: bool = option(
        False,
        "Train twice: the first model labels reviews of --unlabelled_dataset, and those that it is sure of are added "
        "to the training rows of the second, which starts where the first did.",
    )
    self_training_accuracy: float = option(
        0.95, "Accuracy on the validation split of the scores from which --self_training takes a label."
    )
    self_training_rows: int = option(2000, "Reviews that --self_training adds at most, in the shares of the classes.")
    unlabelled_dataset: str | None = option(
        None,
        "Unlabelled reviews for --consistency_weight and --self_training: a dataset name, folder or file. Texts of "
        "validation and test splits among them are not read.",
    )

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        super().check_values()
        self.augmentation = parse_strengths(self.augmentation) or None
        check_regularization(self)
        require(0 <= self.dropout < 1, f"--dropout {self.dropout}: a probability, from 0 to below 1")
        epsilon = self.adversarial_epsilon
        require(0 <= epsilon < math.inf, f"--adversarial_epsilon {epsilon}: must be 0 or more, and finite")
        require_at_least(self, 1, "early_stopping_patience")
        require(0 < self.target_accuracy <= 1, f"--target_accuracy {self.target_accuracy}: above 0, at most 1")
        require(
            self.class_weights in ("none", "balanced") or bool(parse_weights(self.class_weights)),
            f"--class_weights {self.class_weights}: pass none, balanced, or positive numbers separated by commas",
        )


def check_regularization(args: FinetuningArguments) -> None:
    """Raises InputError for values of augmentation and regularisation that no run can use."""
    for name in ("rdrop_alpha", "consistency_weight"):
        require(0 <= getattr(args, name) < math.inf, f"--{name} {getattr(args, name)}: must be 0 or more, and finite")
    share, temperature = args.augmented_share, args.consistency_temperature
    require(0 <= share <= 1, f"--augmented_share {share}: a share, from 0 to 1")
    require(0 < temperature < math.inf, f"--consistency_temperature {temperature}: must be above 0 and finite")
    threshold = args.consistency_threshold
    require(0 <= threshold < 1, f"--consistency_threshold {threshold}: a probability, from 0 to below 1")
    if args.consistency_weight:
        require(
            bool(args.unlabelled_dataset), "--consistency_weight: pass unlabelled reviews with --unlabelled_dataset"
        )
        require(bool(args.augmentation), "--consistency_weight: pass --augmentation, which makes the views that agree")
    require(
        bool(args.consistency_weight) or args.self_training or not args.unlabelled_dataset,
        "--unlabelled_dataset is for --consistency_weight and --self_training: pass one of them too",
    )
    require(
        bool(args.unlabelled_dataset) or not args.self_training,
        "--self_training: pass unlabelled reviews with --unlabelled_dataset",
    )
    accuracy = args.self_training_accuracy
    require(0 < accuracy <= 1, f"--self_training_accuracy {accuracy}: above 0, at most 1")
    require_at_least(args, 1, "self_training_rows")


def parse_strengths(value: str | Mapping[str, object] | None) -> dict[str, float]:
    """The strength of each kind of `--augmentation`; empty for none.

    Raises:
        InputError: a strength that is no share, or a kind twice.

    >>> parse_strengths("synonym=0.2, typo"), parse_strengths({"swap": 1})
    ({'synonym': 0.2, 'typo': 0.1}, {'swap': 1.0})
    """
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = dict(json.loads(value))
        except ValueError as error:
            raise InputError(f"--augmentation is not JSON: {error}") from error
    pairs: list[tuple[str, object]] = []
    if isinstance(value, str):
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, sign, strength = entry.partition("=")
            pairs.append((name.strip(), strength if sign else DEFAULT_STRENGTH))
    else:
        pairs = list((value or {}).items())
    strengths: dict[str, float] = {}
    for name, given in pairs:
        require(name not in strengths, f"--augmentation: '{name}' is there twice")
        try:
            strengths[name] = DEFAULT_STRENGTH if given is None else float(str(given))
        except ValueError:
            strengths[name] = math.nan
        require(
            0 < strengths[name] <= 1,
            f"--augmentation {name}={given}: the strength is a share, above 0 and at most 1",
        )
    return strengths


def parse_weights(text: str) -> list[float]:
    """Weights of classes from numbers separated by commas; empty if one is no positive number.

    >>> parse_weights("1,2.5"), parse_weights("1,-1")
    ([1.0, 2.5], [])
    """
    try:
        weights = [float(weight) for weight in text.split(",")]
    except ValueError:
        return []
    return weights if all(0 < weight < math.inf for weight in weights) else []


@dataclass
class AdaptationArguments(RunArguments):
    """Options of adaptation."""

    output_dir: str = option("outputs/mlm", "Folder of the run.")
    batch_size: int | None = option(None, "Global batch size, over all processes and accumulation steps. Default: 32.")
    num_train_epochs: float | None = option(3, "Number of epochs.")
    objective: str = option(
        "mlm",
        "What to train for. mlm: masked language modelling. contrastive: two views of a review have similar pooler "
        "outputs, others have not (SimCSE). mlm+contrastive: both. polarity: reviews whose words are of the same "
        "sentiment by a lexicon have similar pooler outputs, English only. supervised_contrastive: labelled reviews of "
        "one class have similar pooler outputs (SupCon), on the training split of --target_dataset alone.",
    )
    mlm_probability: float = option(0.15, "Share of tokens to mask and predict.")
    mlm_weight: float = option(0.1, "With mlm+contrastive: weight of the masked-language-model loss in the sum.")
    contrastive_target: str = option(
        "view",
        "With contrastive and mlm+contrastive: what the pooler's output of a review must be similar to. view: that of "
        "another view of it. mean: the mean of its tokens in the original model, which stays frozen.",
        choices=["view", "mean"],
    )
    contrastive_positives: list[str] = option(
        [],
        "With contrastive and mlm+contrastive: kinds of --augmentation that change words, one of which makes the other "
        "view, with a tenth of the words changed. Default: the same text, with dropout of its own.",
    )
    hard_negatives: bool = option(
        False,
        "With contrastive and mlm+contrastive: the review with its sentiment reversed is a negative. English only.",
    )
    temperature: float = option(0.05, "Of the contrastive losses.")
    head_warmup_ratio: str = option(
        "0.1",
        "If the checkpoint has no head for the objective: share of steps that train only a new head. auto: until its "
        "loss is flat, at most 30%.",
    )
    probe_samples: str | None = option(
        None,
        "Labels that the probe is fitted on at each evaluation, a number or 'all' (at most 2,000); 0: no probe. "
        "Default: --target_max_train_samples, or else 100, so that it reads no more labels than a small study has.",
    )
    metric_for_best_model: str = option(
        "loss",
        "What chooses the best checkpoint. loss: the lowest validation loss. probe_accuracy: the highest accuracy of "
        "the probe.",
        choices=["loss", "probe_accuracy"],
    )
    logging_strategy: str = option("steps", "When to log the training loss.")
    logging_steps: float = option(0, "Steps between two logged training losses. Default: 200 times a run.")

    def __post_init__(self) -> None:
        """Checks the options, and completes them as transformers does, which accepts no 0 for `logging_steps`."""
        self.logs_by_default = not self.logging_steps
        self.logging_steps = self.logging_steps or get_default(TrainingArguments.__dataclass_fields__["logging_steps"])
        super().__post_init__()
        self.batch_size = self.global_batch_size or 32
        self.logging_steps = 0 if self.logs_by_default else self.logging_steps

    @property
    def head_warmup_share(self) -> float | None:
        """`head_warmup_ratio` as a number; None for auto."""
        return None if self.head_warmup_ratio == AUTO else float(self.head_warmup_ratio)

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        super().check_values()
        share = self.mlm_probability
        require(0 <= share <= 0.9, f"--mlm_probability {share}: from 0 to 0.9")
        require(share > 0, "--mlm_probability 0: without masked tokens there is nothing to learn")
        ratio = str(self.head_warmup_ratio).lower()
        is_share = NUMBER.fullmatch(ratio) is not None and float(ratio) <= 0.9
        require(ratio == AUTO or is_share, f"--head_warmup_ratio {ratio}: from 0 to 0.9, or auto")
        self.head_warmup_ratio = ratio if ratio == AUTO else f"{float(ratio):g}"
        for name in ("mlm_weight", "temperature"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"--{name} {value}: must be above 0 and finite")
        if self.probe_samples is not None:
            is_off = str(self.probe_samples) == "0"
            self.probe_samples = "0" if is_off else normalise_limit("probe_samples", self.probe_samples)
            chooses = self.metric_for_best_model == "probe_accuracy"
            require(not (is_off and chooses), "--metric_for_best_model probe_accuracy: needs --probe_samples above 0")
        require(not self.label_smoothing_factor, "--label_smoothing_factor is for fine-tuning only")


@dataclass
class AuditArguments:
    """Options of an audit beside those of the data."""

    model: str = option(
        "minilm", "Model whose tokenizer counts tokens; minilm has the vocabulary of bert-base-uncased."
    )
    seed: int = option(42, "Seed of the split.")
    output: str | None = option(None, "Also write the audit as JSON to this file.")
    label_issues: str | None = option(
        None,
        "The folder of a finished fine-tuning: instead, list rows of its data whose label is most likely wrong. Its "
        "recipe is trained once a fold, and judges the rows of that fold.",
    )
    folds: int = option(5, "With --label_issues: number of folds.")
    output_dir: str = option("outputs/label_issues", "With --label_issues: folder to write.")

    def __post_init__(self) -> None:
        """Raises InputError for a seed that no generator takes."""
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: from 0 to 4294967295")
