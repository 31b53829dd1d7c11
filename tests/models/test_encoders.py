"""Encoders other than BERT: losses, heads, checkpoints, parameter groups and limits, each with a tiny random model."""

import inspect
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainingArguments,
)

from sentiment.exceptions import InputError
from sentiment.models.classifier import find_output_layer, load_classifier, load_trained_classifier
from sentiment.models.loading import load_encoder_config
from sentiment.models.masked_lm import load_masked_lm
from sentiment.models.model_folder import POSITIONS_AFTER_PADDING, count_positions
from sentiment.training.optimization import build_parameter_groups
from sentiment.training.trainer import SentimentTrainer, check_precision

TEXTS = ["a good film", "not a dull story but very funny and moving", "bad"]
CLASSES = ("bad", "fair", "good")
LABELS = torch.tensor([2, 0, 1])


def encode(folder: Path, texts: list[str] = TEXTS) -> dict[str, torch.Tensor]:
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def mask(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Labels at every second token of a text."""
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    labels[:, ::2] = -100
    return labels


def test_classifier_has_the_pretrained_encoder_and_loads_in_plain_transformers(
    tiny_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_classifier(str(tiny_encoder), 0.1, {"cleaning": "light"}, class_names=CLASSES).eval()
    assert caplog.records == []  # a new head is what a fine-tuning starts with
    base = AutoModel.from_pretrained(tiny_encoder)
    for name, parameter in model.base_model.named_parameters():
        assert torch.equal(base.get_parameter(name), parameter), name
    batch = encode(tiny_encoder)
    expected = model(**batch).logits
    assert expected.std() > 1e-3
    model.save_pretrained(tmp_path)
    plain, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert plain.config.architectures == [type(plain).__name__]
    assert plain.config.id2label == dict(enumerate(CLASSES))
    torch.testing.assert_close(plain.eval()(**batch).logits, expected, rtol=0, atol=1e-5)
    trained = load_trained_classifier(str(tmp_path))
    torch.testing.assert_close(trained(**batch).logits, expected, rtol=0, atol=1e-6)


def test_dropout_before_the_output_is_that_of_the_option(tiny_encoder: Path) -> None:
    batch = encode(tiny_encoder)
    for dropout, is_random in ((0.0, False), (0.5, True)):
        model = load_classifier(str(tiny_encoder), dropout).train()
        assert torch.equal(model(**batch).logits, model(**batch).logits) != is_random


def test_loss_is_divided_by_the_rows_of_the_optimizer_step(tiny_encoder: Path) -> None:
    model = load_classifier(str(tiny_encoder), class_names=CLASSES).eval()
    batch = encode(tiny_encoder)
    whole = model(**batch, labels=LABELS)
    expected = torch.nn.functional.cross_entropy(whole.logits, LABELS)
    torch.testing.assert_close(whole.loss, expected)
    parts = [
        model(**{name: values[rows] for name, values in batch.items()}, labels=LABELS[rows], num_items_in_batch=3).loss
        for rows in (slice(0, 2), slice(2, 3))
    ]
    torch.testing.assert_close(parts[0] + parts[1], expected, rtol=1e-5, atol=1e-6)


def take_gradient(folder: Path, output_dir: Path, accumulation: int, **options: Any) -> dict[str, torch.Tensor]:
    """The parameters after one SGD step on three rows, in one batch or in micro-batches of two rows and one."""
    torch.manual_seed(1)
    model = load_classifier(str(folder), class_names=CLASSES)
    args = TrainingArguments(
        output_dir=str(output_dir), max_steps=1, per_device_train_batch_size=4 - accumulation, learning_rate=1.0,
        gradient_accumulation_steps=accumulation, lr_scheduler_type="constant", optim="sgd", weight_decay=0.0,
        max_grad_norm=0.0, save_strategy="no", report_to="none", use_cpu=True, dataloader_pin_memory=False,
        disable_tqdm=True, **options,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        {"input_ids": tokenizer(text)["input_ids"], "labels": label}
        for text, label in zip(TEXTS, LABELS.tolist(), strict=True)
    ]
    trainer = SentimentTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"label_smoothing_factor": 0.1}], ids=["plain", "smoothed"])
def test_micro_batches_add_up_to_the_step_of_one_batch(
    tiny_encoder: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    """A `forward` that takes any keywords is trusted by the Trainer to divide its loss by `num_items_in_batch`."""
    start = load_classifier(str(tiny_encoder), class_names=CLASSES)
    whole, parts = (take_gradient(tiny_encoder, tmp_path, accumulation, **options) for accumulation in (1, 2))
    name = next(name for name, _ in start.base_model.named_parameters())
    assert not torch.equal(whole[f"{start.base_model_prefix}.{name}"], start.base_model.get_parameter(name))
    for name, parameter in whole.items():
        torch.testing.assert_close(parts[name], parameter, rtol=1e-3, atol=1e-5, msg=name)


def test_masked_lm_scores_masked_tokens_as_plain_transformers(tiny_encoder: Path, tmp_path: Path) -> None:
    model, is_new = load_masked_lm(str(tiny_encoder))
    assert is_new
    batch = encode(tiny_encoder)
    labels = mask(batch)
    masked = (labels != -100).sum()
    model.train()(**batch, labels=labels).loss.backward()
    unused = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert unused == []  # distributed training would wait for their gradients
    output = model.eval()(**batch, labels=labels)
    assert (output.row_losses.sum() / masked).item() == pytest.approx(output.loss.item(), rel=1e-5)
    assert output.row_masked.tolist() == (labels != -100).sum(1).tolist()
    shared = model(**batch, labels=labels, num_items_in_batch=2 * masked).loss
    assert shared.item() == pytest.approx(output.loss.item() / 2, rel=1e-5)
    model.save_pretrained(tmp_path)
    plain, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert all("pooler" in name for name in report["unexpected_keys"])
    torch.testing.assert_close(plain.eval()(**batch, labels=labels).loss, output.loss)
    word_embeddings, output_embeddings = plain.get_input_embeddings(), plain.get_output_embeddings()
    assert output_embeddings.weight is word_embeddings.weight  # tied
    assert load_masked_lm(str(tmp_path))[1] is False


def test_adapted_checkpoint_gives_the_classifier_its_whole_encoder(
    tiny_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    adapted, _ = load_masked_lm(str(tiny_encoder))
    for parameter in adapted.parameters():
        parameter.data += 1
    adapted.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert "newly initialized" not in caplog.text  # the pooler of BERT and ALBERT is kept
    for name, parameter in model.base_model.named_parameters():
        assert torch.equal(adapted.base_model.get_parameter(name), parameter), name


def test_head_of_other_classes_is_new_and_the_rest_is_kept(
    tiny_encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_classifier(str(tiny_encoder), class_names=CLASSES).save_pretrained(tmp_path)
    same, other = load_classifier(str(tmp_path), class_names=CLASSES), load_classifier(str(tmp_path))
    assert torch.equal(
        find_output_layer(same)[1].weight, find_output_layer(load_trained_classifier(str(tmp_path)))[1].weight
    )
    assert find_output_layer(other)[1].out_features == other.config.num_labels == 2
    assert "has the head of other classes" in caplog.text


@pytest.mark.parametrize("kind", ["distilbert", "electra", "modernbert"])
def test_head_of_another_task_is_not_used(
    kind: str, build_tiny_encoder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = AutoModelForTokenClassification.from_pretrained(build_tiny_encoder(kind), num_labels=2)
    torch.nn.init.constant_(other.classifier.weight, 9.0)
    other.save_pretrained(tmp_path)
    model = load_classifier(str(tmp_path))
    assert find_output_layer(model)[1].weight.abs().max() < 5
    assert ("has the head of another task" in caplog.text) == (kind != "electra")  # whose heads have other names
    with pytest.raises(InputError, match="holds no trained classifier"):
        load_trained_classifier(str(tmp_path))


def test_new_mlm_head_of_a_discriminator_is_said(build_tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    """ELECTRA and DeBERTa-v3 are published as discriminators, whose heads do not predict words."""
    folder = build_tiny_encoder("electra")
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path)
    model, is_new = load_masked_lm(str(tmp_path))
    assert is_new
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_type_without_an_mlm_head_is_refused_in_one_line(tmp_path: Path) -> None:
    AutoConfig.for_model("canine", hidden_size=8, num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"model of type canine, which has no masked-language-model head in"
    ) as refusal:
        load_masked_lm(str(tmp_path))
    assert "fine-tune it without adaptation" in str(refusal.value)


# --- parameter groups ---

PLACES = {
    "albert": ["classifier.", "albert.pooler.", "albert.encoder.albert_layer_groups.0.", "albert.embeddings."],
    "bert": ["classifier.", "bert.pooler.", "bert.encoder.layer.1.", "bert.encoder.layer.0.", "bert.embeddings."],
    "deberta-v2": ["pooler.", "deberta.encoder.layer.1.", "deberta.encoder.layer.0.",
                   "deberta.encoder.rel_embeddings."],
    "distilbert": ["pre_classifier.", "distilbert.transformer.layer.1.", "distilbert.transformer.layer.0.",
                   "distilbert.embeddings."],
    "electra": ["classifier.", "electra.encoder.layer.1.", "electra.encoder.layer.0.", "electra.embeddings_project."],
    "modernbert": ["head.", "model.final_norm.", "model.layers.1.", "model.layers.0.", "model.embeddings."],
    "roberta": ["classifier.", "roberta.encoder.layer.1.", "roberta.encoder.layer.0.", "roberta.embeddings."],
    "xlm-roberta": ["classifier.", "roberta.encoder.layer.1.", "roberta.encoder.layer.0.", "roberta.embeddings."],
}  # fmt: skip
SAME_AS = {  # what else must have the rate of the embeddings
    "albert": "albert.encoder.embedding_hidden_mapping_in.",
    "deberta-v2": "deberta.embeddings.",
    "electra": "electra.embeddings.",
}


@pytest.mark.parametrize("kind", sorted(PLACES))
def test_rates_fall_from_the_head_to_the_embeddings(kind: str, build_tiny_encoder: Callable[[str], Path]) -> None:
    model = load_classifier(str(build_tiny_encoder(kind)))
    groups: list[dict[str, Any]] = build_parameter_groups(model, 1.0, 2.0, 0.5, 0.01)
    grouped = [parameter for group in groups for parameter in group["params"]]
    assert len(grouped) == len({*grouped}) == len(list(model.parameters()))
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    found = []
    for place in PLACES[kind]:
        (rate,) = {rates[parameter] for name, parameter in model.named_parameters() if name.startswith(place)}
        found.append(rate)
    has_pooler = found[1] == 1.0
    layers = len(found) - 2 - has_pooler
    assert found == [2.0, *[1.0] * has_pooler, *(0.5 ** (layer + 1) for layer in range(layers + 1))]
    assert all(upper > lower for upper, lower in pairwise(found))
    assert {rates[parameter] for name, parameter in model.named_parameters() if name.startswith("classifier.")} == {2.0}
    if kind in SAME_AS:
        beside = {rates[parameter] for name, parameter in model.named_parameters() if name.startswith(SAME_AS[kind])}
        assert beside == {found[-1]}


def test_tied_output_of_a_masked_lm_is_an_embedding(build_tiny_encoder: Callable[[str], Path]) -> None:
    """XLM-R lists its head first, and with it the word embeddings, under the name of the head's decoder."""
    model, _ = load_masked_lm(str(build_tiny_encoder("xlm-roberta")))
    groups: list[dict[str, Any]] = build_parameter_groups(model, 1.0, None, 0.5, 0.01)
    (rate,) = {group["lr"] for group in groups for p in group["params"] if p is model.get_input_embeddings().weight}
    assert rate == 0.5**3


def test_parallel_lists_of_layers_are_one_stack() -> None:
    """XLM keeps attentions, norms and feed-forward networks in a list each."""
    config = AutoConfig.for_model("xlm", emb_dim=8, n_layers=3, n_heads=2, vocab_size=20)
    model = AutoModelForSequenceClassification.from_config(config)
    groups: list[dict[str, Any]] = build_parameter_groups(model, 1.0, None, 0.5, 0.01)
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        for part in ("attentions", "layer_norm1", "ffns", "layer_norm2"):
            if name.startswith(f"transformer.{part}."):
                assert rates[parameter] == 0.5 ** (3 - int(name.split(".")[2])), name


# --- adversarial training ---


def test_adversarial_training_perturbs_the_input_embeddings(tiny_encoder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    model: Any = load_classifier(str(tiny_encoder), class_names=CLASSES)
    trainer = SentimentTrainer(model=model, args=args)
    trainer.current_gradient_accumulation_steps = 1  # set by the loop that a step is a part of
    words = model.get_input_embeddings().weight
    batch = encode(tiny_encoder) | {"labels": LABELS}

    def step(epsilon: float) -> dict[str, torch.Tensor]:
        model.zero_grad()
        trainer.adversarial_epsilon = epsilon
        trainer.training_step(model, dict(batch))
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    before = words.detach().clone()
    plain = step(0.0)
    gradient = words.grad.clone()
    summed = step(0.5)
    assert torch.equal(words.detach(), before)
    words.data += 0.5 * gradient / gradient.norm()
    moved = step(0.0)
    for name, both in summed.items():
        torch.testing.assert_close(both, plain[name] + moved[name], rtol=1e-3, atol=1e-5, msg=name)


# --- limits ---


def test_models_take_as_many_tokens_as_is_counted(tiny_encoder: Path) -> None:
    model = load_classifier(str(tiny_encoder)).eval()
    longest = count_positions(model.config.to_dict())
    assert longest == 64
    token = AutoTokenizer.from_pretrained(tiny_encoder)("good")["input_ids"][1]
    assert model(torch.full((1, longest), token)).logits.isfinite().all()
    if model.config.model_type not in ("deberta-v2", "modernbert"):  # with relative positions
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), token))


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2"])
def test_types_that_overflow_in_mixed_precision_are_refused_in_it(kind: str) -> None:
    """DeBERTa-v1 overflows in bf16; where this fails, transformers has fixed it, and the refusal can go."""
    config = AutoConfig.for_model(
        kind, vocab_size=20, relative_attention=True, max_relative_positions=16, pos_att_type=["c2p", "p2c"],
        position_biased_input=False, **dict.fromkeys(("hidden_size", "intermediate_size"), 8), num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    model, ids = AutoModelForSequenceClassification.from_config(config), torch.tensor([[5, 6, 7]])
    check_precision(kind, "fp32")
    with torch.autocast("cpu", torch.bfloat16):
        if kind == "deberta-v2":
            assert model(ids).logits.isfinite().all()
            check_precision(kind, "bf16")
            return
        with pytest.raises(RuntimeError, match="without overflow"):
            model(ids)
    with pytest.raises(InputError, match="models of type deberta overflow in bf16: pass --precision fp32"):
        check_precision(kind, "bf16")


def test_positions_after_padding_are_those_of_transformers() -> None:
    """Every encoder whose code counts positions from its padding token is in the table, and no other."""
    found = set()
    for kind in CONFIG_MAPPING:
        model_class: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(CONFIG_MAPPING[kind], None)
        if model_class is None or model_class.main_input_name != "input_ids":
            continue
        source = inspect.getsource(inspect.getmodule(model_class))  # type: ignore[arg-type]
        if "padding_idx + 1" in source or "create_position_ids_from_input_ids(" in source:
            found.add(kind)
    assert found == POSITIONS_AFTER_PADDING


def test_config_that_names_code_is_refused(build_tiny_encoder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(build_tiny_encoder("roberta"), tmp_path / "model"))
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(text.replace("{", '{"auto_map": {"AutoModel": "code.Model"},', 1))
    with pytest.raises(InputError, match="remote code is never run"):
        load_encoder_config(str(folder))
