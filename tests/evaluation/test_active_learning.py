"""BADGE against the distances of the gradients themselves, and on constructed texts."""

import numpy as np
import pytest

from sentiment.evaluation.active_learning import sample_badge


def make_texts(rows: int, classes: int, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows)
    probabilities = generator.dirichlet(np.ones(classes), size=rows)
    return probabilities, generator.normal(size=(rows, size)).astype(np.float32)


def sample_by_gradients(probabilities: np.ndarray, embeddings: np.ndarray, count: int, seed: int) -> list[int]:
    """The same draws, from the outer products and their distances."""
    errors = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    gradients = np.stack([np.outer(error, one).ravel() for error, one in zip(errors, embeddings, strict=True)])
    generator = np.random.default_rng(seed)
    chosen = [int((gradients**2).sum(axis=1).argmax())]
    while len(chosen) < count:
        distances = ((gradients[:, np.newaxis] - gradients[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(generator.choice(len(gradients), p=distances / distances.sum())))
    return chosen


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_draws_are_those_of_the_gradients(classes: int) -> None:
    probabilities, embeddings = make_texts(60, classes)
    for seed in range(5):
        chosen = sample_badge(probabilities, embeddings, 20, seed)
        assert chosen == sample_by_gradients(probabilities, embeddings, 20, seed)
        assert len({*chosen}) == 20


def test_draws_depend_on_the_seed_alone() -> None:
    probabilities, embeddings = make_texts(200, 3)
    first, again, other = (sample_badge(probabilities, embeddings, 30, seed) for seed in (1, 1, 2))
    assert first == again
    assert {*first} != {*other}
    assert sample_badge(probabilities, embeddings, 10, 1) == first[:10]  # the first ones are a batch of their own


def test_uncertain_texts_are_preferred() -> None:
    embeddings = make_texts(1000, 2)[1]
    scores = np.full(1000, 0.995)
    scores[::10] = 0.55
    chosen = sample_badge(np.stack([scores, 1 - scores], axis=1), embeddings, 50, seed=1)
    assert sum(scores[chosen] < 0.6) > 45


def test_of_texts_that_are_alike_only_one_is_chosen() -> None:
    """Three groups of equal embeddings and probabilities, each seen once; then nothing else differs."""
    generator = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 20)
    embeddings = generator.normal(size=(3, 384)).astype(np.float32)[group]
    probabilities = np.array([[0.5, 0.5], [0.6, 0.4], [0.45, 0.55]])[group]
    chosen = sample_badge(probabilities, embeddings, 10, seed=3)
    assert sorted(group[chosen]) == [0, 1, 2]


def test_redundant_rows_are_passed_over() -> None:
    probabilities, embeddings = make_texts(50, 2)
    seen: list[int] = []

    def is_redundant(row: int) -> bool:
        seen.append(row)
        return bool(row % 2)

    chosen = sample_badge(probabilities, embeddings, 50, 1, is_redundant)
    assert sorted(chosen) == list(range(0, 50, 2))
    assert sorted(seen) == list(range(50))


def test_fewer_rows_than_asked_for() -> None:
    probabilities, embeddings = make_texts(5, 2)
    assert sorted(sample_badge(probabilities, embeddings, 100, 1)) == [0, 1, 2, 3, 4]
    assert sample_badge(probabilities[:1], embeddings[:1], 2, 1) == [0]
