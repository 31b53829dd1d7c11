"""An objective of adaptation is one class and its entry in the table: all that is written has its words."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel, BertPreTrainedModel, EvalPrediction, PreTrainedTokenizerBase
from transformers import DataCollatorForTokenClassification as PaddingCollator
from transformers.utils import ModelOutput

from sentiment.config.arguments import (
    AdaptationArguments,
    CorpusArguments,
    DataArguments,
    FinetuningArguments,
    ModelArguments,
)
from sentiment.exceptions import InputError
from sentiment.models.loading import load_encoder_config, load_weights
from sentiment.objectives import OBJECTIVES, Description, Objective
from sentiment.pipelines.adaptation import AdaptationRun
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.reporting.terminal import render_adaptation
from sentiment.training.batches import EpochTracker


class BertForTokenParity(BertPreTrainedModel):
    """A BERT that tells whether a token's id is even."""

    accepts_loss_kwargs = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.parity = torch.nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> ModelOutput:
        """The loss, and in evaluation mode the sums over the tokens of each row."""
        logits = self.parity(self.bert(input_ids, attention_mask=attention_mask).last_hidden_state)
        if labels is None:
            return ModelOutput(logits=logits)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
        is_token = labels >= 0
        output = ModelOutput(loss=losses.sum() / (num_items_in_batch or is_token.sum()))
        if not self.training:
            correct = (logits.argmax(-1) == labels) & is_token
            output |= {"row_losses": losses.sum(1), "row_correct": correct.sum(1), "row_tokens": is_token.sum(1)}
        return output


class TokenParity(Objective):
    """Each token classified as one with an even or an odd id."""

    description = Description(
        name="parity detection",
        loss_unit="nats per classified token",
        metrics={"loss": "loss per classified token", "accuracy": "parity accuracy"},
        main_metric="accuracy",
        formats={"accuracy": ".1%"},
        examples_title="Guessed parities",
        examples_note="Held-out reviews, and whether their first token is even.",
        hub_tag="parity",
    )

    def load_model(
        self, model_path: str, preprocessing: dict[str, Any] | None = None, revision: str | None = None
    ) -> tuple[BertForTokenParity, bool]:
        config = load_encoder_config(model_path, revision, preprocessing=preprocessing or {})
        model, missing = load_weights(BertForTokenParity, model_path, config, revision)
        return model, "parity.weight" in missing

    def build_collator(self, tokenizer: PreTrainedTokenizerBase, tracker: EpochTracker) -> Callable[[Any], Any]:
        del tracker  # nothing is random
        pad = PaddingCollator(tokenizer)

        def collate(rows: Sequence[dict[str, Any]]) -> Any:
            return pad([{"input_ids": row["input_ids"], "labels": [i % 2 for i in row["input_ids"]]} for row in rows])

        return collate

    def build_validation(self, texts: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        del tokenizer
        return texts.map(lambda row: {"labels": [i % 2 for i in row["input_ids"]]}).remove_columns(
            "special_tokens_mask"
        )

    def compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        losses, correct, tokens = (np.asarray(values, dtype=np.float64).sum() for values in prediction.predictions)
        return {"loss": losses / tokens, "accuracy": correct / tokens, "unlisted": 1.0}

    def choose_examples(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        parities = [tokenizer(text)["input_ids"][1] % 2 for text in texts[:5]]
        return [
            {"text": text, "word": "odd" if parity else "even"} for text, parity in zip(texts, parities, strict=False)
        ]

    def answer_examples(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, examples: Sequence[dict[str, Any]]
    ) -> list[Any]:
        answers = []
        for example in examples:
            inputs = {
                name: ids.to(model.device) for name, ids in tokenizer(example["text"], return_tensors="pt").items()
            }
            with torch.inference_mode():
                even, odd = model(inputs["input_ids"]).logits[0, 1].softmax(-1).tolist()
            answers.append(sorted([("even", even), ("odd", odd)], key=lambda answer: -answer[1]))
        return answers


@pytest.fixture
def adapt(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`adapt(objective)` adapts the tiny BERT to the reviews, and gives the run's folder."""

    def adapt_tiny(objective: str) -> Path:
        corpus_args = CorpusArguments(
            dataset_name=[str(reviews_csv)], target_dataset=str(reviews_csv), max_seq_length=32
        )
        args = AdaptationArguments(
            output_dir=str(tmp_path / objective), objective=objective, num_train_epochs=1, precision="fp32"
        )
        AdaptationRun("mlm", ModelArguments(model_name_or_path=str(tiny_bert)), corpus_args, args).execute()
        return tmp_path / objective

    return adapt_tiny


def test_all_that_is_written_has_the_words_of_the_objective(
    adapt: Callable[[str], Path], reviews_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "parity", TokenParity)
    folder = adapt("parity")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    for found in (*metrics["validation"].values(), *(entry["validation"] for entry in metrics["history"])):
        assert set(found) == {"loss", "accuracy", "probe_accuracy"}
    args = FinetuningArguments(output_dir=str(tmp_path / "finetune"), num_train_epochs=1, precision="fp32")
    data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32)
    FinetuningRun("finetune", ModelArguments(model_name_or_path=str(folder)), data_args, args).execute()
    record = json.loads((tmp_path / "finetune/run.json").read_text(encoding="utf-8"))
    assert record["adaptation"]["objective"] == "parity detection"

    texts = {path: path.read_text(encoding="utf-8") for path in (
        folder / "report.md", folder / "report.html", folder / "model/README.md",
        tmp_path / "finetune/report.md", tmp_path / "finetune/model/README.md",
    )}  # fmt: skip
    for path, text in texts.items():
        assert "parity detection" in text, path
    texts[Path("terminal")] = render_adaptation(metrics)
    assert "parity accuracy" in texts[Path("terminal")]
    assert "## Guessed parities" in texts[folder / "report.md"]
    for path, text in texts.items():
        for word in ("masked", "perplexity", "mask]", "mlm head", "vocabulary"):
            assert word not in text.lower(), (path, word)


def test_an_unknown_objective_is_refused_before_anything_is_written(
    adapt: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"^--objective nonsense: choose among mlm, contrastive, mlm\+contrastive, polarity, "
    ):
        adapt("nonsense")
    assert not (tmp_path / "nonsense").exists()
