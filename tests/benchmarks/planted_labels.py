"""Precision and recall of the list of label issues for planted errors: SST-2's first 10,000 rows, some labels flipped.

    OMP_NUM_THREADS=1 python tests/benchmarks/planted_labels.py --data_dir DIR --seed 1

Trains strategy A on the flipped rows (`sst2_minilm.yaml` without adversarial training, 3 epochs), then five folds;
an interrupted call is resumed. Errors of SST-2 itself count as false alarms.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from sentiment.cli import main as run_sentiment
from sentiment.data.sources import load_reviews
from sentiment.pipelines.label_audit import audit_label_issues
from sentiment.runs.results import ISSUES_FILE

ROWS = 10_000
OPTIONS = ("sst2_minilm.yaml", "--adversarial_epsilon=0", "--num_train_epochs=3", "--split=stratified", "--resume")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output_dir", default="outputs/planted_labels", type=Path)
    args = parser.parse_args()
    folder = args.output_dir / f"seed_{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    train = load_reviews("sst2", args.data_dir)["train"].select(range(ROWS))
    labels = np.asarray(train["label"])
    planted = np.random.default_rng(args.seed).choice(ROWS, round(args.share * ROWS), replace=False)
    labels[planted] = 1 - labels[planted]
    path = folder / "flipped.csv"
    if not path.exists():
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *zip(train["text"], labels, strict=True)])
    run = folder / "run"
    flags = [*OPTIONS, f"--dataset={path}", f"--seed={args.seed}", f"--output_dir={run}"]
    run_sentiment(["train", *flags])
    summary = audit_label_issues(run, folder / "issues")
    with (folder / "issues" / ISSUES_FILE).open(encoding="utf-8", newline="") as stream:
        listed = [int(row["row"]) for row in csv.DictReader(stream)]
    # Texts with both labels are dropped by every run, so that no list can hold them.
    found, wrong = len({*listed} & {*planted.tolist()}), len(planted)
    print(f"{summary['rows']:,} rows, {wrong} labels flipped; {len(listed)} suspected, {found} of them flipped")
    print(f"precision {found / len(listed):.3f}, recall {found / wrong:.3f}")
    print(f"estimated share of wrong labels {summary['estimated_share']:.3f}, flipped {args.share:.3f}")
    for top in (100, 250, 500):
        hits = len({*listed[:top]} & {*planted.tolist()})
        print(f"of the first {min(top, len(listed))}: {hits} flipped")


if __name__ == "__main__":
    main()
