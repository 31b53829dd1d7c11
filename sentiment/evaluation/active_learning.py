"""Batch active learning: which texts to label next, by the model's uncertainty and their diversity together."""

from collections.abc import Callable

import numpy as np

TOLERANCE = 1e-5  # squared distances below this share of the squared norms are rounding errors of fp32


def sample_badge(
    probabilities: np.ndarray,
    embeddings: np.ndarray,
    count: int,
    seed: int,
    is_redundant: Callable[[int], bool] = lambda _: False,
) -> list[int]:
    """The rows to label, up to `count`, in the order of the draws, by BADGE (Ash et al. 2020, arXiv:1906.03671).

    k-means++ seeding (Arthur & Vassilvitskii 2007) on the gradients of the loss with respect to the output layer, if
    the predicted label were true: the outer products of `probabilities - onehot(predicted)` and the embeddings. An
    uncertain text has a long gradient, and texts that are alike have similar ones. The first row has the longest; each
    next one is drawn by its squared distance to the nearest one before. Since <a b', c d'> = <a, c><b, d>, the outer
    products themselves are never computed.

    Fewer rows come back if no other gradient differs from theirs.

    Args:
        probabilities: of the classes, shape (rows, classes).
        embeddings: inputs of the output layer, shape (rows, hidden size).
        count: rows to draw.
        seed: of the draws.
        is_redundant: whether to pass over a row that was drawn; called in order, so that it may keep the rows before.

    >>> sample_badge(np.array([[0.99, 0.01], [0.5, 0.5], [0.5, 0.5]]), np.array([[1, 0], [0, 1], [0, 1]]), 3, seed=1)
    [1, 0]
    """
    rows = len(probabilities)
    errors = probabilities.copy()
    errors[np.arange(rows), probabilities.argmax(axis=1)] -= 1
    norms = (errors**2).sum(axis=1) * np.einsum("ij,ij->i", embeddings, embeddings)
    nearest = np.full(rows, np.inf)  # squared distance of each gradient to the nearest of the chosen ones
    generator, row = np.random.default_rng(seed), int(norms.argmax())
    chosen: list[int] = []
    while len(chosen) < count:
        if is_redundant(row):
            nearest[row] = 0
        else:
            chosen.append(row)
            distances = norms + norms[row] - 2 * (errors @ errors[row]) * (embeddings @ embeddings[row])
            distances[distances < TOLERANCE * (norms + norms[row])] = 0
            np.minimum(nearest, distances, out=nearest)
        total = nearest.sum()
        if not total > 0:
            break
        row = int(generator.choice(rows, p=nearest / total))
    return chosen
