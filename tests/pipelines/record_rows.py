"""train_e2e.py that writes down which training rows each process was given, in order: rows_<rank>.json."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorWithPadding

import sentiment.pipelines.augmentation
from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.parsing import parse_arguments
from sentiment.data.finetuning_data import prepare_data
from sentiment.models.loading import load_tokenizer
from sentiment.pipelines.finetuning import FinetuningRun

collated: list[str] = []


def name_row(input_ids: Sequence[int]) -> str:
    return " ".join(map(str, input_ids))


class RecordingCollator(DataCollatorWithPadding):
    def __call__(self, features: list[dict[str, Any]]) -> Any:
        collated.extend(name_row(feature["input_ids"]) for feature in features)
        torch.rand(1 + int(os.environ["RANK"]))  # as processes may use random numbers unequally
        return super().__call__(features)


def main() -> None:
    sentiment.pipelines.augmentation.DataCollatorWithPadding = RecordingCollator  # type: ignore[misc]
    model_args, data_args, args = parse_arguments([ModelArguments, DataArguments, FinetuningArguments])
    FinetuningRun("e2e", model_args, data_args, args).execute()
    train = prepare_data(data_args, args.seed, load_tokenizer(model_args.model_name_or_path)).tokenized["train"]
    training_rows = {name_row(ids) for ids in train["input_ids"]}
    seen = [row for row in collated if row in training_rows]  # the others were validated on
    Path(args.output_dir, f"rows_{os.environ['RANK']}.json").write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
