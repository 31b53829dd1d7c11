"""What models and datasets are called on the Hub; a model card may name only what stands there."""

import re
from collections.abc import Mapping
from pathlib import Path

HUB_MODELS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
HUB_DATASETS = {"sst2": "stanfordnlp/sst2", "imdb": "stanfordnlp/imdb"}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_hub_name(name: str, known: Mapping[str, str]) -> str | None:
    """The Hub's name of one of our short names, or the name itself where it can be one of the Hub's; else None.

    >>> find_hub_name("imdb", HUB_DATASETS), find_hub_name("cornell/rotten", HUB_DATASETS)
    ('stanfordnlp/imdb', 'cornell/rotten')
    >>> find_hub_name("reviews.csv", HUB_DATASETS) is None
    True
    """
    if name in known:
        return known[name]
    return name if HUB_NAME.fullmatch(name) and not Path(name).exists() else None


def shorten_dataset_name(dataset: str) -> str:
    """A dataset's name without its owner, folder or file ending.

    >>> shorten_dataset_name("stanfordnlp/sst2"), shorten_dataset_name("my_reviews.csv")
    ('sst2', 'my_reviews')
    """
    return Path(dataset).name if find_hub_name(dataset, HUB_DATASETS) else Path(dataset).stem
