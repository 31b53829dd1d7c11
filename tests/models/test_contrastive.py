"""Encoders trained through their pooler: equal to plain transformers, saved as its own classes, without the teacher."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModel, BertForMaskedLM, BertModel

from sentiment.exceptions import InputError
from sentiment.inference.embeddings import compute_embeddings, compute_head_inputs, load_encoder
from sentiment.models.classifier import load_classifier
from sentiment.models.contrastive import (
    JointModel,
    PooledEncoder,
    SupervisedContrastiveEncoder,
    load_contrastive_encoder,
    load_joint_model,
)
from sentiment.models.masked_lm import load_masked_lm

KEYS = torch.arange(3)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three texts of 5, 4 and 3 tokens."""
    input_ids = torch.tensor([[2, 6, 7, 8, 3], [2, 9, 10, 3, 0], [2, 11, 3, 0, 0]])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}


@pytest.fixture
def other() -> dict[str, torch.Tensor]:
    """Other texts, with more tokens."""
    input_ids = torch.tensor([[2, 6, 7, 8, 12, 13, 3], [2, 9, 14, 3, 0, 0, 0], [2, 15, 3, 0, 0, 0, 0]])
    return {f"positive_{name}": value for name, value in
            {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}.items()}  # fmt: skip


def pool_plainly(folder: Path, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        pooled: torch.Tensor = BertModel.from_pretrained(folder).eval()(**batch).pooler_output
    return pooled


@pytest.mark.parametrize("fast", ["0", "1"])
def test_embeddings_and_loss_are_those_of_plain_transformers(
    tiny_bert: Path,
    batch: dict[str, torch.Tensor],
    other: dict[str, torch.Tensor],
    fast: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENTIMENT_FAST_BERT", fast)
    model = load_contrastive_encoder(str(tiny_bert)).eval()
    with torch.inference_mode():
        output = model(**batch, labels=KEYS, **other)
    anchors = pool_plainly(tiny_bert, batch)
    positives = pool_plainly(tiny_bert, {name.removeprefix("positive_"): value for name, value in other.items()})
    assert torch.allclose(output.anchors, anchors, atol=1e-5)
    assert torch.allclose(output.positives, positives, atol=1e-5)
    similarities = functional.cosine_similarity(anchors[:, None], positives[None], dim=-1) / 0.05
    assert float(output.loss) == pytest.approx(float(functional.cross_entropy(similarities, KEYS)), abs=1e-5)
    assert output.text_keys.tolist() == [0, 1, 2]


def test_two_dropout_views_differ_and_all_weights_learn(
    tiny_bert_with_dropout: Path, batch: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    model = load_contrastive_encoder(str(tiny_bert_with_dropout)).train()
    loss = model(**batch, labels=KEYS).loss
    assert loss > 0.01  # equal views of different texts would have almost none
    loss.backward()
    assert [name for name, one in model.named_parameters() if one.grad is None] == []


def test_hard_negatives_belong_to_their_rows(tiny_bert: Path, batch: dict[str, torch.Tensor]) -> None:
    model = load_contrastive_encoder(str(tiny_bert)).eval()
    negatives = torch.tensor([[2, 20, 21, 3]])
    with torch.inference_mode():
        output = model(
            **batch,
            labels=KEYS,
            negative_input_ids=negatives,
            negative_attention_mask=torch.ones_like(negatives),
            negative_rows=torch.tensor([1]),
        )
        without = model(**batch, labels=KEYS, negative_rows=torch.tensor([], dtype=torch.int64))
    assert output.has_negative.tolist() == [0, 1, 0]
    assert torch.allclose(output.negatives[1], pool_plainly(tiny_bert, {"input_ids": negatives})[0], atol=1e-5)
    assert without.has_negative.tolist() == [0, 0, 0]
    assert output.loss > without.loss


def test_what_is_saved_is_a_plain_encoder_with_its_pooler(
    tiny_bert: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = load_contrastive_encoder(str(tiny_bert), preprocessing={"cleaning": "light"})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(load_file(tiny_bert / "model.safetensors"))
    plain = AutoModel.from_pretrained(tmp_path)
    assert type(plain) is BertModel
    (ours,) = model.eval().embed((batch["input_ids"], batch["attention_mask"]))
    assert torch.allclose(plain.eval()(**batch).pooler_output, ours, atol=1e-5)
    classifier = load_classifier(str(tmp_path))
    assert torch.equal(classifier.bert.pooler.dense.weight, model.pooler.dense.weight)


def test_the_mean_of_the_frozen_encoders_tokens_is_the_target(
    tiny_bert: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model, teacher = load_contrastive_encoder(str(tiny_bert)), load_encoder(str(tiny_bert))
    model.set_teacher(teacher)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.no_grad():
        output = model.eval()(**batch, labels=KEYS)
    texts = [[2, 6, 7, 8, 3], [2, 9, 10, 3], [2, 11, 3]]
    assert output.positives.numpy() == pytest.approx(compute_embeddings(teacher, texts), abs=1e-5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(**batch, labels=KEYS).loss.backward()
    optimizer.step()
    assert all(bool((value == before[name]).all()) for name, value in teacher.state_dict().items())
    assert not torch.equal(model.pooler.dense.weight, before["pooler.dense.weight"])
    model.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(load_file(tiny_bert / "model.safetensors"))


def test_a_joint_model_is_a_masked_language_model_and_sums_both_losses(
    tiny_bert: Path, batch: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    joint, is_new = load_joint_model(str(tiny_bert))
    assert isinstance(joint, JointModel)
    assert is_new
    joint.mlm_weight = 0.3
    joint.save_pretrained(tmp_path)
    assert "bert.pooler.dense.weight" in load_file(tmp_path / "model.safetensors")
    assert BertForMaskedLM.from_pretrained(tmp_path).config.architectures == ["BertForMaskedLM"]
    masked_lm, is_new = load_masked_lm(str(tmp_path))
    assert not is_new
    labels = torch.full((3, 5), -100)
    labels[0, 2], labels[1, 1] = 7, 9
    masked = batch["input_ids"].clone()
    masked[0, 2] = masked[1, 1] = 4
    views = {"anchor_input_ids": batch["input_ids"], "text_keys": KEYS, **other}
    with torch.inference_mode():
        found = joint.eval()(input_ids=masked, attention_mask=batch["attention_mask"], labels=labels, **views)
        lone = masked_lm.eval()(input_ids=masked, attention_mask=batch["attention_mask"], labels=labels)
        contrastive = load_contrastive_encoder(str(tmp_path)).eval()(**batch, labels=KEYS, **other)
        logits = joint(input_ids=masked, attention_mask=batch["attention_mask"]).logits
    assert float(found.loss) == pytest.approx(float(contrastive.loss + 0.3 * lone.loss), abs=1e-5)
    assert torch.allclose(found.row_losses, lone.row_losses, atol=1e-5)
    assert torch.allclose(found.anchors, contrastive.anchors, atol=1e-5)
    assert logits.shape == (3, 5, joint.config.vocab_size)
    assert [*found][1:] == ["row_losses", "row_correct", "row_masked", "text_keys", "anchors", "positives"]
    joint.train()(input_ids=masked, attention_mask=batch["attention_mask"], labels=labels, **views).loss.backward()
    assert joint.bert.pooler.dense.weight.grad is not None


def test_texts_of_one_class_attract_each_other(tiny_bert: Path, batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = load_contrastive_encoder(str(tiny_bert), SupervisedContrastiveEncoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    labels = torch.tensor([0, 1, 0])

    def compare() -> tuple[float, float]:
        with torch.no_grad():
            (found,) = model.embed((batch["input_ids"], batch["attention_mask"]))
        return tuple(float(functional.cosine_similarity(found[0], found[row], dim=0)) for row in (1, 2))

    other_before, same_before = compare()
    for _ in range(20):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    other_after, same_after = compare()
    assert same_after - other_after > same_before - other_before + 0.1


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "modernbert", "electra"])
def test_encoders_whose_classifier_has_no_pooler_are_refused(
    build_tiny_encoder: Callable[[str], Path], kind: str
) -> None:
    folder = str(build_tiny_encoder(kind))
    for load in (load_contrastive_encoder, load_joint_model):
        with pytest.raises(InputError, match=rf"the classifier of type {kind} has no pooler.* --objective mlm"):
            load(folder)


def test_albert_has_a_pooler_too(build_tiny_encoder: Callable[[str], Path], batch: dict[str, torch.Tensor]) -> None:
    folder = build_tiny_encoder("albert")
    model: PooledEncoder = load_contrastive_encoder(str(folder)).eval()
    (found,) = model.embed((batch["input_ids"], batch["attention_mask"]))
    plain = AutoModel.from_pretrained(folder).eval()
    assert torch.allclose(found, plain(**batch).pooler_output, atol=1e-5)


@pytest.mark.parametrize("kind", ["albert", "bert", "roberta", "distilbert", "modernbert"])
def test_head_inputs_are_the_poolers_output_or_the_first_token(
    build_tiny_encoder: Callable[[str], Path], kind: str
) -> None:
    folder, texts = build_tiny_encoder(kind), [[2, 6, 7, 8, 9, 3], [2, 9, 3]]
    plain = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = [plain(torch.tensor([ids])) for ids in texts]
    has_pooler = kind in ("albert", "bert")
    vectors = [one.pooler_output[0] if has_pooler else one.last_hidden_state[0, 0] for one in expected]
    model, _ = load_masked_lm(str(folder))
    model.train()
    for found in (compute_head_inputs(model, texts), compute_head_inputs(load_encoder(str(folder)), texts)):
        assert found == pytest.approx(torch.stack(vectors).numpy(), abs=1e-4)
    assert model.training
