"""Coverage of the 95% intervals of a study, over seeds and test rows, by simulation.

    python tests/benchmarks/study_coverage.py

A line per number of seeds and test rows: the share of simulated studies whose interval holds the true difference, for
standard deviations of a seed's mean from 0 to 3 points, and shares of the rows' variance that all seeds have in common.
"""

import numpy as np

from sentiment.evaluation.study_effects import compute_study_interval

# Standard deviation of the mean of a seed, and share of the variance of rows that seeds have in common.
CASES = ((0.0, 0.5), (0.005, 0.5), (0.01, 0.5), (0.02, 0.5), (0.01, 0.0), (0.03, 0.8))
ROW_VARIANCE = 0.2  # of a difference of right answers, -1, 0 or 1
STUDIES = 1_500


def main() -> None:
    """Print the table."""
    print("seeds  rows  " + "  ".join(f"{deviation}, {shared}" for deviation, shared in CASES))
    for seeds in (2, 3, 5):
        for rows in (10, 30, 100, 300, 1000):
            shares = (count_covered(seeds, rows, *case) / STUDIES for case in CASES)
            print(f"{seeds:>5}  {rows:>4}  " + "  ".join(f"{share:.3f}" for share in shares), flush=True)


def count_covered(seeds: int, rows: int, deviation: float, shared: float) -> int:
    """How many of `STUDIES` intervals hold the true difference, 0."""
    generator, covered = np.random.default_rng(1), 0
    for _ in range(STUDIES):
        differences = generator.normal(0, deviation, (seeds, 1))
        differences = differences + generator.normal(0, (ROW_VARIANCE * shared) ** 0.5, (1, rows))
        differences = differences + generator.normal(0, (ROW_VARIANCE * (1 - shared)) ** 0.5, (seeds, rows))
        low, high = compute_study_interval(differences)
        covered += low <= 0 <= high
    return covered


if __name__ == "__main__":
    main()
