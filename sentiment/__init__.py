"""Fine-tune an encoder end to end, or adapt it to your domain first: train both, and get an honest verdict.

>>> from sentiment import Predictor, adapt, compare, finetune
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentiment.inference.predictor import Predictor as Predictor
    from sentiment.pipelines.adaptation import adapt as adapt
    from sentiment.pipelines.comparison import compare as compare
    from sentiment.pipelines.finetuning import finetune as finetune

__all__ = ["Predictor", "adapt", "compare", "finetune"]
__version__ = "0.2.0"

MODULES = {
    "Predictor": "sentiment.inference.predictor",
    "adapt": "sentiment.pipelines.adaptation",
    "compare": "sentiment.pipelines.comparison",
    "finetune": "sentiment.pipelines.finetuning",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `sentiment fetch` does not import torch."""
    if name not in MODULES:
        raise AttributeError(f"module 'sentiment' has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)
