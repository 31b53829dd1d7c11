"""What the lexicon of `--objective polarity` knows by itself, on the rows of `sentiment study`: test accuracy.

    OMP_NUM_THREADS=1 python tests/benchmarks/lexicon_few_labels.py --data_dir DIR

Without labels, by the sign of `rate_sentiment`; and with them, by a logistic regression on the embedded model's frozen
embeddings, without and with the rating as one more feature. Texts that are rated 0 count as the most frequent class.
"""

import argparse

import numpy as np

from sentiment.config.arguments import DataArguments
from sentiment.data.assignment import sample_training_rows
from sentiment.data.augmentation.sentiment_rating import rate_sentiment
from sentiment.data.finetuning_data import load_split_reviews
from sentiment.data.tokenization import tokenize_batch
from sentiment.evaluation.baselines import fit_logistic_regression, scale_features
from sentiment.inference.embeddings import compute_cached_embeddings
from sentiment.models.loading import load_tokenizer
from sentiment.models.model_folder import resolve_model

SPLIT_SEED = 42  # of the packaged studies


def measure(data_dir: str | None, budgets: list[int], seeds: list[int]) -> None:
    """Print the accuracy for each budget and seed."""
    reviews = load_split_reviews(DataArguments(dataset_name="sst2", data_dir=data_dir, split_seed=SPLIT_SEED), seed=0)
    splits = {name: reviews.splits[name] for name in ("train", "validation", "test")}
    path = resolve_model("minilm")
    tokenizer = load_tokenizer(path)
    ratings, embeddings, labels = {}, {}, {}
    for name, rows in splits.items():
        ids = tokenize_batch({"text": rows["text"][:]}, tokenizer, 128)["input_ids"]
        embeddings[name] = compute_cached_embeddings(path, None, ids)
        ratings[name] = np.array([rate_sentiment(text) for text in rows["text"]])
        labels[name] = np.asarray(rows["label"][:])
    rated = ratings["test"] != 0
    is_right = (ratings["test"] > 0) == labels["test"]
    print(f"rated: {rated.mean():.3f} of the test rows, accuracy {is_right[rated].mean():.4f} on these")
    place = {row: number for number, row in enumerate(splits["train"]["row"])}
    for budget in budgets:
        for seed in seeds:
            sample = sample_training_rows(splits["train"], budget, seed)
            chosen = [place[row] for row in sample["row"]]
            own = labels | {"train": labels["train"][chosen]}
            frequent = np.bincount(own["train"]).argmax()
            alone = np.where(rated, ratings["test"] > 0, frequent) == labels["test"]
            found = [alone.mean()]
            for with_rating in (False, True):
                features = {
                    name: np.column_stack([part, ratings[name]]) if with_rating else part
                    for name, part in embeddings.items()
                }
                features["train"] = features["train"][chosen]
                names = splits["train"].features["label"].names
                predicted, _ = fit_logistic_regression(scale_features(features), own, names, "accuracy")
                found.append((predicted == labels["test"]).mean())
            print(
                f"{budget} labels, seed {seed}: lexicon {found[0]:.4f}, embeddings {found[1]:.4f}, both {found[2]:.4f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    measure(options.data_dir, options.budgets, options.seeds)
