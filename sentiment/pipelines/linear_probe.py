"""Linear probing before fine-tuning (LP-FT; Kumar et al. 2022, arXiv:2202.10054): the head alone, on frozen features.

A new head sends large gradients into the encoder and distorts its features; one that has converged does not.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from sentiment.config.arguments import FinetuningArguments
from sentiment.data.finetuning_data import RunData
from sentiment.evaluation.baselines import choose_logistic_regression
from sentiment.inference.batching import pad_batch, sort_into_batches
from sentiment.models.classifier import SentimentClassifier, find_output_layer
from sentiment.storage import read_json, write_json
from sentiment.training.checkpoints import find_last_checkpoint
from sentiment.training.trainer import SentimentTrainer

ABSENT_CLASS = -10.0  # logit of a class without training rows, below those of the others


PROBE_FILE = "linear_probe.json"  # beside the checkpoints, and deleted with them


def run_linear_probe(trainer: SentimentTrainer, args: FinetuningArguments, data: RunData) -> dict[str, Any]:
    """Fits the head of the trainer's model, unless a resumed run has done so; what `fit_head` found.

    Only in the main process: distributed training copies its weights to the others.
    """
    path = Path(str(trainer.args.output_dir)) / PROBE_FILE
    if args.resume and path.is_file() and find_last_checkpoint(path.parent)[0] is not None:
        found: dict[str, Any] = read_json(path)
        return found
    assert isinstance(trainer.model, SentimentClassifier)
    found = fit_head(trainer.model, data, args.metric_for_best_model)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    score, seconds = found["validation_score"], found["seconds"]
    print(f"linear probe: {found['metric']} {score:.4f} on the validation split, {seconds:.1f} s", file=sys.stderr)
    return found


def fit_head(model: SentimentClassifier, data: RunData, metric: str) -> dict[str, Any]:
    """Fits the output layer by logistic regression on its inputs, which stay as they are; what came out.

    The strength of the regularisation is chosen on the validation split; the test split is not read. Softmax over the
    logits of the layer gives the probabilities of scikit-learn's model. Random numbers are not used.
    """
    start = time.perf_counter()
    class_names: Sequence[str] = data.splits["train"].features["label"].names
    names = ("train", "validation")
    labels = {name: np.asarray(data.tokenized[name]["labels"][:]) for name in names}
    features = {name: compute_head_inputs(model, data.tokenized[name]["input_ids"][:]) for name in names}
    scaler = StandardScaler().fit(features["train"])
    scaled = {name: scaler.transform(own) for name, own in features.items()}
    metric = "accuracy" if metric == "loss" else metric
    chosen, score = choose_logistic_regression(scaled, labels, class_names, metric)
    weights, biases = chosen.coef_, chosen.intercept_
    if len(weights) == 1:  # the logit of the second class alone
        weights, biases = np.vstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    weights = weights / scaler.scale_  # of the inputs as they are
    biases = biases - weights @ scaler.mean_
    _, layer = find_output_layer(model)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(float(biases.min()) + ABSENT_CLASS)
        present = torch.as_tensor(chosen.classes_, device=layer.weight.device)
        layer.weight[present] = torch.as_tensor(weights, dtype=layer.weight.dtype, device=layer.weight.device)
        layer.bias[present] = torch.as_tensor(biases, dtype=layer.bias.dtype, device=layer.bias.device)
    return {"C": float(chosen.C), "metric": metric, "validation_score": score, "seconds": time.perf_counter() - start}


@torch.inference_mode()
def compute_head_inputs(model: SentimentClassifier, input_ids: Sequence[Sequence[int]]) -> np.ndarray:
    """What the output layer gets for each text, without dropout; shape (texts, inputs), in fp32."""
    _, layer = find_output_layer(model)
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    was_training = model.training
    model.eval()
    found = np.empty((len(input_ids), layer.in_features), dtype=np.float32)
    try:
        for batch in sort_into_batches(input_ids):
            padded = pad_batch([input_ids[place] for place in batch], model.config.pad_token_id or 0)
            model(**{name: torch.from_numpy(values).to(model.device) for name, values in padded.items()})
            found[batch] = seen.pop().float().cpu().numpy()
    finally:
        hook.remove()
        model.train(was_training)
    return found
