"""Texts of different lengths in one batch."""

from sentiment.inference.batching import pad_batch


def test_padding_is_masked() -> None:
    batch = pad_batch([[2, 7, 3], [2, 3]], pad_token_id=9)
    assert batch["input_ids"].tolist() == [[2, 7, 3], [2, 3, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
