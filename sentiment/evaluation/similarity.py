"""Embeddings judged by their similarities: alignment, uniformity, and which texts are nearest."""

import numpy as np

BLOCK_ROWS = 512  # compared with all others at a time


def normalize(embeddings: np.ndarray) -> np.ndarray:
    """The rows at length 1, in fp64."""
    rows = np.asarray(embeddings, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def compute_alignment(anchors: np.ndarray, positives: np.ndarray) -> float:
    """The mean squared distance of normalised embeddings of pairs that should be alike, from 0 (equal) to 4.

    Wang & Isola 2020 (arXiv:2005.10242), section 4.1, with alpha = 2.

    >>> compute_alignment(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))
    2.0
    """
    return float(((normalize(anchors) - normalize(positives)) ** 2).sum(axis=1).mean())


def compute_uniformity(embeddings: np.ndarray) -> float:
    """The logarithm of the mean of exp(-2 d^2) over all pairs of different rows, d their distance when normalised.

    0 if all are equal, lower the more evenly they fill the sphere: Wang & Isola 2020 (arXiv:2005.10242), section 4.1,
    with t = 2. 0 of a single row.

    >>> round(compute_uniformity(np.array([[1.0, 0.0], [-3.0, 0.0]])), 6)
    -8.0
    """
    rows = normalize(embeddings)
    count = len(rows)
    if count < 2:
        return 0.0
    total = -float(count)  # of each row with itself
    for start in range(0, count, BLOCK_ROWS):
        total += float(np.exp(4 * (rows[start : start + BLOCK_ROWS] @ rows.T) - 4).sum())  # d^2 = 2 - 2 cosine
    return float(np.log(max(total, 1e-300) / (count * (count - 1))))


def compute_class_alignment(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """`compute_alignment` of all pairs of different rows with the same label; NaN if there is none."""
    rows = normalize(embeddings)
    total = pairs = 0.0
    for label in np.unique(labels):
        own = rows[labels == label]
        count = len(own)
        # The sum of |a - b|^2 over all ordered pairs is 2 n * sum |a|^2 - 2 |sum a|^2, and each |a|^2 is 1.
        total += 2 * count * count - 2 * float((own.sum(axis=0) ** 2).sum())
        pairs += count * (count - 1)
    return total / pairs if pairs else float("nan")


def find_nearest(rows: np.ndarray, columns: np.ndarray, excludes_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The place of the most similar column to each row by cosine, and that similarity.

    With `excludes_self`, rows and columns are the same texts, and none is compared with itself.
    """
    rows, columns = normalize(rows), normalize(columns)
    places, similarities = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS] @ columns.T
        if excludes_self:
            block[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        found = block.argmax(axis=1)
        places[start : start + len(block)] = found
        similarities[start : start + len(block)] = block[np.arange(len(block)), found]
    return places, similarities


def compute_retrieval_accuracy(anchors: np.ndarray, positives: np.ndarray, keys: np.ndarray) -> float:
    """The share of anchors whose most similar positive, among those of all rows, is their own or that of an equal text.

    >>> compute_retrieval_accuracy(np.eye(2), np.array([[1.0, 0.2], [1.0, 0.3]]), np.array([5, 6]))
    1.0
    """
    places, _ = find_nearest(anchors, positives)
    return float((keys[places] == keys).mean())


def compute_reversal_accuracy(anchors: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> float:
    """The share of rows whose positive is more similar to the anchor than the hard negative; NaN of no rows."""
    if not len(anchors):
        return float("nan")
    own = normalize(anchors)
    positive, negative = ((own * normalize(other)).sum(axis=1) for other in (positives, negatives))
    return float((positive > negative).mean())
