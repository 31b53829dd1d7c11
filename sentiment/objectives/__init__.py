"""Objectives of adaptation: one module each, and one entry in the table that `--objective` chooses from."""

from sentiment.objectives.contrastive import ContrastiveLearning
from sentiment.objectives.joint import JointLearning
from sentiment.objectives.masked_language_modeling import MaskedLanguageModeling
from sentiment.objectives.objective import Description, Objective
from sentiment.objectives.polarity import PolarityLearning
from sentiment.objectives.supervised_contrastive import SupervisedContrastiveLearning

__all__ = ["OBJECTIVES", "Description", "Objective"]

OBJECTIVES: dict[str, type[Objective]] = {
    "mlm": MaskedLanguageModeling,
    "contrastive": ContrastiveLearning,
    "mlm+contrastive": JointLearning,
    "polarity": PolarityLearning,
    "supervised_contrastive": SupervisedContrastiveLearning,
}
