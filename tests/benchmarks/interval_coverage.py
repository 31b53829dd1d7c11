"""Coverage of 95% intervals of a difference in accuracy on the same rows, by simulation.

    python tests/benchmarks/interval_coverage.py

A line per number of test rows: the share of samples whose interval holds the true difference, of the adjusted Wald
interval that the comparison uses and of the percentiles of a paired bootstrap, for four pairs of accuracies.
"""

import numpy as np

from sentiment.evaluation.intervals import compute_paired_interval

# Accuracy of A and of B, and share of the rows that only one has right.
CASES = ((0.50, 0.50, 0.30), (0.80, 0.85, 0.15), (0.90, 0.92, 0.06), (0.97, 0.98, 0.03))
ROWS = (10, 20, 50, 100, 300, 1000)
SAMPLES, RESAMPLES = 1_000, 2_000


def main() -> None:
    """Print the table."""
    print("rows  " + "  ".join(f"{a:.2f} and {b:.2f}" for a, b, _ in CASES) + "  (adjusted Wald, bootstrap)")
    for rows in ROWS:
        generator, cells = np.random.default_rng(rows), []
        for accuracy_a, accuracy_b, discordance in CASES:
            difference = accuracy_b - accuracy_a
            shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
            covered = np.zeros(2)
            for counts in generator.multinomial(rows, shares, size=SAMPLES):
                drawn = generator.multinomial(rows, counts / rows, size=RESAMPLES)
                percentiles = np.percentile((drawn[:, 0] - drawn[:, 1]) / rows, [2.5, 97.5])
                intervals = (compute_paired_interval(counts[0], counts[1], rows), percentiles)
                covered += [low <= difference + 1e-12 and difference - 1e-12 <= high for low, high in intervals]
            cells.append("  ".join(f"{share:.3f}" for share in covered / SAMPLES))
        print(f"{rows:>4}  " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
