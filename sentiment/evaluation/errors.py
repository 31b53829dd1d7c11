"""Where a classifier errs: error rates by slice of the texts, and its most confident errors."""

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from sentiment.evaluation.metrics import compute_share_interval
from sentiment.evaluation.slices import assign_slices


def compute_slices(
    texts: Sequence[str], labels: Sequence[int], predicted: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> list[dict[str, Any]]:
    """Rows, errors, error rate and its 95% interval for all texts, then for each of `SLICES`, in their order.

    A slice without rows stays in the list, with None for the rate and the interval.
    """
    wrong = [label != guess for label, guess in zip(labels, predicted, strict=True)]
    return [
        _summarize_slice(name, (is_wrong for is_wrong, member in zip(wrong, members, strict=True) if member))
        for name, members in assign_slices(texts, tokenizer).items()
    ]


def _summarize_slice(name: str, wrong: Iterable[bool]) -> dict[str, Any]:
    outcomes = list(wrong)
    rows, errors = len(outcomes), sum(outcomes)
    return {
        "name": name,
        "rows": rows,
        "errors": errors,
        "error_rate": errors / rows if rows else None,
        "error_rate_ci95": compute_share_interval(errors, rows) if rows else None,
    }


def most_confident_errors(
    texts: Sequence[str],
    labels: Sequence[int],
    predicted: Sequence[int],
    probabilities: Sequence[float],
    limit: int = 20,
) -> list[dict[str, Any]]:
    """The misclassified texts that the model was surest of, at most `limit`, surest first, then by row.

    `probabilities` are those of positive; `confidence` is the probability of the predicted label.

    >>> most_confident_errors(["fine", "dull"], [1, 0], [1, 1], [0.9, 0.75])
    [{'row': 1, 'text': 'dull', 'label': 0, 'predicted': 1, 'confidence': 0.75}]
    """
    errors: list[dict[str, Any]] = [
        {
            "row": row,
            "text": text,
            "label": int(label),
            "predicted": int(guess),
            "confidence": float(probability if guess == 1 else 1.0 - probability),
        }
        for row, (text, label, guess, probability) in enumerate(
            zip(texts, labels, predicted, probabilities, strict=True)
        )
        if label != guess
    ]
    return sorted(errors, key=lambda error: (-error["confidence"], error["row"]))[:limit]
