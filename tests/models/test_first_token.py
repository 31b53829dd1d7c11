"""The last layer for the first token alone: the same logits and gradients as the layer for all tokens."""

from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification

from sentiment.models.classifier import load_classifier
from sentiment.models.fast_bert import FirstTokenLayer


@pytest.mark.parametrize("is_padded", [False, True])
def test_logits_and_gradients_are_those_of_plain_transformers(tiny_bert: Path, tmp_path: Path, is_padded: bool) -> None:
    torch.manual_seed(0)
    ours = load_classifier(str(tiny_bert)).train()
    ours.save_pretrained(tmp_path)
    plain = BertForSequenceClassification.from_pretrained(tmp_path).train()
    assert isinstance(ours.bert.encoder.layer[-1], FirstTokenLayer)
    batch = {
        "input_ids": torch.randint(5, plain.config.vocab_size, (4, 9)),
        "attention_mask": torch.ones(4, 9, dtype=torch.int64),
    }
    if is_padded:
        batch["attention_mask"][1:, 6:] = 0
    labels = torch.tensor([0, 1, 1, 0])
    results = [model(**batch, labels=labels) for model in (ours, plain)]
    torch.testing.assert_close(results[0].logits, results[1].logits)
    for result in results:
        result.loss.backward()
    expected = dict(plain.named_parameters())
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, msg=lambda text, name=name: f"{name}: {text}")
