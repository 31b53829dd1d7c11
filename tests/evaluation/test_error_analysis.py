import pytest
from transformers import BertTokenizerFast

from sentiment.evaluation.error_analysis import compute_slices, find_most_confident_errors
from sentiment.evaluation.slices import SLICES

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "dull", "but", "not"]
NEGATION = next(name for name in SLICES if name.startswith("negation"))
CONTRAST = next(name for name in SLICES if name.startswith("contrast"))


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={piece: number for number, piece in enumerate(PIECES)})


def test_rates_by_slice(tokenizer: BertTokenizerFast) -> None:
    texts = ["good", "dull", "not good", "good but dull"]
    slices = {entry["name"]: entry for entry in compute_slices(texts, [1, 0, 0, 0], [1, 1, 1, 0], tokenizer)}
    assert list(slices) == ["all texts", *SLICES]
    assert slices["all texts"]["rows"] == 4
    assert slices["all texts"]["errors"] == 2
    assert slices["1 word"]["error_rate"] == 0.5
    assert slices[NEGATION]["error_rate"] == 1.0
    assert slices[CONTRAST]["error_rate"] == 0.0
    assert slices["1 word"]["error_rate_ci95"] == pytest.approx([0.0945, 0.9055], abs=1e-4)
    assert slices["over 20 words"] == {
        "name": "over 20 words", "rows": 0, "errors": 0, "error_rate": None, "error_rate_ci95": None,
    }  # fmt: skip


def test_no_texts(tokenizer: BertTokenizerFast) -> None:
    assert all(entry["rows"] == 0 for entry in compute_slices([], [], [], tokenizer))


def test_most_confident_errors_come_surest_first_then_by_row() -> None:
    errors = find_most_confident_errors(
        texts=["a", "b", "c", "d", "e"],
        labels=[1, 1, 0, 0, 1],
        predicted=[0, 1, 1, 1, 0],
        probabilities=[0.25, 0.99, 0.75, 0.9, 0.4],
    )
    assert [(error["row"], error["confidence"]) for error in errors] == [
        (3, 0.9),
        (0, 0.75),
        (2, 0.75),
        (4, 0.6),
    ]
    assert find_most_confident_errors(["a"] * 30, [1] * 30, [0] * 30, [0.1] * 30, limit=2)[-1]["row"] == 1
    assert len(find_most_confident_errors(["a"] * 30, [1] * 30, [0] * 30, [0.1] * 30)) == 20
