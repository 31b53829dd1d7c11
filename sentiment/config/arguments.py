"""Options of fine-tuning and adaptation, beside those that every run shares."""

import math
import re
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
from sentiment.exceptions import require

# The other options of a run.
__all__ = ["CorpusArguments", "DataArguments", "ModelArguments", "RunArguments"]

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

    def check_values(self) -> None:
        """Raises InputError for values that no run can use."""
        super().check_values()
        require(0 <= self.dropout < 1, f"--dropout {self.dropout}: a probability, from 0 to below 1")
        epsilon = self.adversarial_epsilon
        require(0 <= epsilon < math.inf, f"--adversarial_epsilon {epsilon}: must be 0 or more, and finite")
        require_at_least(self, 1, "early_stopping_patience")
        require(0 < self.target_accuracy <= 1, f"--target_accuracy {self.target_accuracy}: above 0, at most 1")
        require(
            self.class_weights in ("none", "balanced") or bool(parse_weights(self.class_weights)),
            f"--class_weights {self.class_weights}: pass none, balanced, or positive numbers separated by commas",
        )


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
        "outputs, others have not (SimCSE). mlm+contrastive: both. supervised_contrastive: labelled reviews of one "
        "class have similar pooler outputs (SupCon), on the training split of --target_dataset alone.",
    )
    mlm_probability: float = option(0.15, "Share of tokens to mask and predict.")
    mlm_weight: float = option(0.1, "With mlm+contrastive: weight of the masked-language-model loss in the sum.")
    contrastive_target: str = option(
        "view",
        "With contrastive: what the pooler's output of a review must be similar to. view: that of another view of it. "
        "mean: the mean of its tokens in the original model, which stays frozen.",
        choices=["view", "mean"],
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
