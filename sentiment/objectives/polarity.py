"""Contrastive learning by polarity: weak labels from a lexicon of words of sentiment, for unlabelled reviews."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value
from transformers import PreTrainedTokenizerBase

from sentiment.config.arguments import CorpusArguments
from sentiment.data.adaptation_data import AdaptationData
from sentiment.data.augmentation.sentiment_rating import rate_sentiment
from sentiment.data.caching import map_batches
from sentiment.data.labels import LABEL_NAMES
from sentiment.data.languages import choose_language
from sentiment.environment import is_main_process
from sentiment.exceptions import require
from sentiment.objectives.contrastive import sample_texts
from sentiment.objectives.supervised_contrastive import ClassContrast

LOWEST_RATING = 1.0  # without its sign, of a text that has a polarity: half of that of a word such as "good" (1.9)
RATING_VERSION = "1"  # increase when `rate_sentiment` or `LOWEST_RATING` gives other labels
FEWEST_TEXTS = 2  # of each polarity: a text without another one of its polarity has no loss


class PolarityLearning(ClassContrast):
    """Texts whose words of sentiment have the same polarity have similar pooler outputs.

    Sentiment from a lexicon for texts without labels, as in SKEP (Tian et al. 2020, arXiv:2005.05635), which predicts
    the polarity of masked words. Here the whole text has one: the sign of the sum of its words' ratings (VADER), turned
    by negations. Texts whose sum is near 0 are left out. English only.
    """

    description = replace(
        ClassContrast.description,
        name="contrastive learning by the polarity of words",
        metrics={
            "loss": "contrastive loss per text (nats)",
            "accuracy": "share whose nearest text has the same polarity",
            "alignment": "alignment of texts with the same polarity",
            "uniformity": "uniformity",
        },
        metrics_note="The polarity of a text is that of its words of sentiment, by the lexicon of VADER. "
        + ClassContrast.description.metrics_note.replace("the same label", "the same polarity"),
        texts="unlabelled reviews with words of sentiment",
        examples_note="Held-out reviews, the most similar other one by the pooler's output, and their cosine "
        "similarity.",
    )

    @property
    def needs_texts(self) -> bool:
        """Always, since they are rated."""
        return True

    def list_datasets(self, data_args: CorpusArguments) -> list[str]:
        """The names of the datasets that it trains on; raises InputError for a stream."""
        name = f"--objective {self.args.objective}"
        require(
            not data_args.streaming, f"--streaming: {name} rates all texts before training: pass --max_rows instead"
        )
        return super().list_datasets(data_args)

    def compute_fingerprints(self, data_args: CorpusArguments) -> dict[str, str]:
        """Fingerprints of its texts as they are now, and the version of their ratings."""
        return super().compute_fingerprints(data_args) | {"ratings": RATING_VERSION}

    def prepare_data(self, data_args: CorpusArguments, tokenizer: PreTrainedTokenizerBase) -> AdaptationData:
        """Its texts that have a polarity, as `labels`.

        Raises InputError if they are not English, or too few of a split have one.
        """
        data, name = super().prepare_data(data_args, tokenizer), f"--objective {self.args.objective}"
        self.require_english(choose_language(data_args.language, data.held_out_texts), name)
        assert isinstance(data.train, Dataset)
        splits = {"train": data.train, "validation": data.validation}
        workers, version = data_args.preprocessing_num_workers, {"rating_version": RATING_VERSION}
        features = Features(data.train.features | {"labels": Value("int64")})  # known even where a batch has none
        rated = {
            split: map_batches(texts, keep_rated, workers, version, features=features, desc="Polarity")
            for split, texts in splits.items()
        }
        counts = {split: np.bincount(texts["labels"][:], minlength=2) for split, texts in rated.items()}
        for split, (negative, positive) in counts.items():
            require(
                min(negative, positive) >= FEWEST_TEXTS,
                f"{name}: of {len(splits[split]):,} {split} texts, {negative:,} are negative and {positive:,} positive "
                f"by their words, and {FEWEST_TEXTS} of each are needed: pass more reviews",
            )
        polarities = dict(zip(LABEL_NAMES, counts["train"].tolist(), strict=True))
        if is_main_process():
            shares = " and ".join(f"{count:,} are {polarity}" for polarity, count in polarities.items())
            print(f"polarity: of {len(data.train):,} training texts, {shares} by their words", file=sys.stderr)
        audit = data.audit | {
            "polarities": polarities,
            "texts": {split: len(texts) for split, texts in rated.items()},
            "tokens": {split: int(np.sum(texts["length"][:])) for split, texts in rated.items()},
        }
        audit.pop("long_text_modes")  # of all texts
        fingerprints = data.fingerprints | {"ratings": RATING_VERSION}
        return replace(
            data, train=rated["train"], validation=rated["validation"], audit=audit, fingerprints=fingerprints
        )

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:  # noqa: ARG002
        """Up to 2,000 of the held-out texts."""
        return sample_texts(texts, self.args.seed)


def keep_rated(batch: dict[str, list[Any]], rating_version: str) -> dict[str, list[Any]]:  # noqa: ARG001 - a cache's key
    """The texts of a batch that have a polarity, 0 (negative) or 1, as `labels`."""
    ratings = [rate_sentiment(text) for text in batch["text"]]
    kept = [place for place, rating in enumerate(ratings) if abs(rating) >= LOWEST_RATING]
    chosen = {name: [values[place] for place in kept] for name, values in batch.items()}
    return chosen | {"labels": [int(ratings[place] > 0) for place in kept]}
