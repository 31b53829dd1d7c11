"""What two ways of training cost in time, where one shares an adaptation among several fine-tunings."""

import math
from typing import Any

SHARED_AMONG = (1, 2, 5, 10, 100)
CLOSE_RATIO = 1.1


def compare_costs(
    train_a: float, train_b: float, adaptation_a: float = 0.0, adaptation_b: float = 0.0
) -> dict[str, Any]:
    """Seconds of both alone and with their adaptation, and a fine-tuning's seconds where several share one.

    Args:
        train_a: seconds of A's fine-tuning.
        train_b: seconds of B's.
        adaptation_a: seconds of the adaptation that A started from; 0 for none.
        adaptation_b: the same of B.

    `close_after` is the smallest number of fine-tunings from one adapted model with which B takes at most
    `close_ratio` times A's time for each; None where no number is enough.
    """
    return {
        "a": {"train_seconds": train_a, "adaptation_seconds": adaptation_a, "seconds": train_a + adaptation_a},
        "b": {"train_seconds": train_b, "adaptation_seconds": adaptation_b, "seconds": train_b + adaptation_b},
        "ratio": (train_b + adaptation_b) / (train_a + adaptation_a),
        "shared": [
            {"finetunings": number, "a": each_a, "b": each_b, "ratio": each_b / each_a}
            for number in SHARED_AMONG
            for each_a, each_b in [(train_a + adaptation_a / number, train_b + adaptation_b / number)]
        ],
        "close_ratio": CLOSE_RATIO,
        "close_after": count_finetunings_until_close(train_a, train_b, adaptation_a, adaptation_b),
    }


def count_finetunings_until_close(
    train_a: float, train_b: float, adaptation_a: float, adaptation_b: float
) -> int | None:
    """`close_after` of `compare_costs`.

    >>> count_finetunings_until_close(500, 500, 0, 1000)
    20
    """
    # B's extra is shared out among n fine-tunings: extra / n <= room.
    extra = adaptation_b - CLOSE_RATIO * adaptation_a
    room = CLOSE_RATIO * train_a - train_b
    if extra <= room:
        return 1
    return math.ceil(extra / room) if room > 0 else None
