"""Training cost of two strategies, with an adaptation's cost amortized over the fine-tunings that share it."""

import math
from typing import Any

FINETUNING_COUNTS = (1, 2, 5, 10, 100)
TARGET_RATIO = 1.1


def compare_costs(
    train_a: float, train_b: float, adaptation_a: float = 0.0, adaptation_b: float = 0.0
) -> dict[str, Any]:
    """Training seconds of A and B with and without adaptation, and per fine-tuning if several share one adaptation."""
    return {
        "a": {"train_seconds": train_a, "adaptation_seconds": adaptation_a, "seconds": train_a + adaptation_a},
        "b": {"train_seconds": train_b, "adaptation_seconds": adaptation_b, "seconds": train_b + adaptation_b},
        "ratio": (train_b + adaptation_b) / (train_a + adaptation_a),
        "amortized": [
            {"finetunings": count, "a": each_a, "b": each_b, "ratio": each_b / each_a}
            for count in FINETUNING_COUNTS
            for each_a, each_b in [(train_a + adaptation_a / count, train_b + adaptation_b / count)]
        ],
        "target_ratio": TARGET_RATIO,
        "finetunings_to_target": count_finetunings_to_target(train_a, train_b, adaptation_a, adaptation_b),
    }


def count_finetunings_to_target(train_a: float, train_b: float, adaptation_a: float, adaptation_b: float) -> int | None:
    """Fewest fine-tunings per adaptation at which B's cost is at most `TARGET_RATIO` times A's; None if no number is."""
    # Solve train_b + adaptation_b / n <= TARGET_RATIO * (train_a + adaptation_a / n) for n.
    extra = adaptation_b - TARGET_RATIO * adaptation_a
    margin = TARGET_RATIO * train_a - train_b
    if extra <= margin:
        return 1
    return math.ceil(extra / margin) if margin > 0 else None
