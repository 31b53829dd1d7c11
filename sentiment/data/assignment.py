"""Random assignment of rows to splits, numbered as in `ratios`: with (8, 1, 1), split 0 gets 80%, 1 and 2 get 10%."""

from collections.abc import Iterable, Sequence

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from sentiment.data.labels import shorten
from sentiment.data.leaks import find_containers
from sentiment.data.suspicious_classes import find_misspelt_classes, suggest_mapping
from sentiment.exceptions import require


def merge_equal_keys(keys: Sequence[str], texts: Iterable[str]) -> list[str]:
    """Keys of rows, such that rows with an equal key or an equal text share one.

    >>> merge_equal_keys(["goodfilm", "good film", "goodfilm"], ["good film", "good film", "goodfilm"])
    ['goodfilm', 'goodfilm', 'goodfilm']
    """
    nodes: dict[tuple[str, str], int] = {}
    key_nodes = [nodes.setdefault(("key", key), len(nodes)) for key in keys]
    text_nodes = [nodes.setdefault(("text", text), len(nodes)) for text in texts]
    edges = coo_matrix((np.ones(len(keys)), (key_nodes, text_nodes)), shape=(len(nodes), len(nodes)))
    components = connected_components(edges, directed=False)[1].tolist()
    first_keys: dict[int, str] = {}
    return [first_keys.setdefault(components[node], key) for node, key in zip(key_nodes, keys, strict=True)]


def assign_stratified(
    keys: Sequence[object], labels: np.ndarray, ratios: Sequence[int], seed: int, class_names: Sequence[str] = ()
) -> np.ndarray:
    """The split of each row, shape (rows,); rows of equal key share one."""
    first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
    split_of = dict(
        zip(first_row, assign_units(labels[list(first_row.values())], ratios, seed, class_names), strict=True)
    )
    return np.array([split_of[key] for key in keys], dtype=int)


def assign_grouped(
    keys: Sequence[str], labels: np.ndarray, ratios: Sequence[int], seed: int, class_names: Sequence[str] = ()
) -> np.ndarray:
    """The split of each row, shape (rows,): that of the texts that contain it, or -1 if these are in several.

    Only texts contained in no other are assigned at random, so that no phrase of a test sentence is in training.
    """
    label_of = dict(zip(reversed(keys), reversed(labels), strict=True))
    texts = list(label_of)
    containers = find_containers(texts)
    maximal = [position for position, text in enumerate(texts) if text not in containers]
    maximal_labels = np.array([label_of[texts[position]] for position in maximal])
    splits = assign_units(maximal_labels, ratios, seed, class_names)
    split_at = dict(zip(maximal, splits.tolist(), strict=True))
    split_of = {texts[position]: split for position, split in split_at.items()}
    for text, positions in containers.items():
        found = {split_at[position] for position in positions}
        split_of[text] = found.pop() if len(found) == 1 else -1
    return np.array([split_of[key] for key in keys], dtype=int)


def assign_units(labels: np.ndarray, ratios: Sequence[int], seed: int, class_names: Sequence[str] = ()) -> np.ndarray:
    """The split of each unit, shape (units,), stratified by class; raises InputError if a class has too few units."""
    require(len(labels) > 0, "no usable rows: no text has exactly one label")
    counts = {
        class_names[label] if class_names else str(label): count
        for label, count in enumerate(np.bincount(labels).tolist())
        if count
    }
    require(len(counts) > 1, f"all {len(labels):,} usable rows are {min(counts)!r}: a classifier needs two classes")
    misspelt = find_misspelt_classes(counts)
    near = {name: f" (one letter from {other!r})" for name, other in misspelt.items()}
    few = [f"{count:,} of {name!r}{near.get(name, '')}" for name, count in counts.items() if count < sum(ratios)]
    require(
        not few,
        f"too few rows to split {':'.join(map(str, ratios))}: of different texts there are "
        f"{shorten(', '.join(few), 200)}, and {sum(ratios)} of each class are needed; join classes, or leave them out, "
        f"with {suggest_mapping(counts, misspelt)}",
    )
    splits = np.zeros(len(labels), dtype=int)
    rest, rest_ratio = np.arange(len(labels)), sum(ratios)
    for split in range(len(ratios) - 1, 0, -1):
        share = ratios[split] / rest_ratio
        rest, chosen = train_test_split(rest, test_size=share, random_state=seed, stratify=labels[rest])
        splits[chosen] = split
        rest_ratio -= ratios[split]
    return splits


def limit_rows(pool: Dataset, max_rows: int | None, sample: str, seed: int) -> Dataset:
    """The first `max_rows` rows (`sample="first"`), or a random sample of as many, in their original order."""
    if max_rows is None or max_rows >= len(pool):
        return pool
    if sample == "first":
        return pool.select(range(max_rows))
    return pool.select(np.sort(np.random.default_rng(seed).choice(len(pool), max_rows, replace=False)))


def sample_training_rows(part: Dataset, rows: int, seed: int) -> Dataset:
    """A random sample of the split with its label shares; smaller samples of a seed are subsets of larger ones."""
    labels = np.asarray(part["label"][:])
    require(rows <= len(part), f"--max_train_samples {rows:,}: the training split has {len(part):,} rows")
    shuffled = np.random.default_rng(seed).permutation(len(part))
    ranks = np.empty(len(part))  # of each row among those of its label, as a share of them
    for label in np.unique(labels):
        own = shuffled[labels[shuffled] == label]
        ranks[own] = (np.arange(len(own)) + 0.5) / len(own)
    chosen = np.sort(np.argsort(ranks, kind="stable")[:rows])
    lacks_label = set(labels[chosen]) != set(labels)
    require(not lacks_label, f"--max_train_samples {rows}: too few for rows of all classes")
    return part.select(chosen)
