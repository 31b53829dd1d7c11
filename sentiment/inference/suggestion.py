"""`sentiment suggest`: the unlabelled reviews to label next, as a table that `--dataset` reads once it is labelled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets
from tqdm.auto import tqdm

from sentiment.data.caching import map_batches
from sentiment.data.corpus import choose_splits, find_usable, hash_batch
from sentiment.data.labels import UNLABELLED, LabelOptions
from sentiment.data.leaks import NearDuplicates
from sentiment.data.sources import load_reviews
from sentiment.evaluation.active_learning import sample_badge
from sentiment.exceptions import require
from sentiment.inference.backends import TorchBackend
from sentiment.inference.batching import check_finite, compute_probabilities, sort_into_batches
from sentiment.inference.checkpoint import Checkpoint, load_checkpoint
from sentiment.inference.file_prediction import exit_on_sigterm
from sentiment.inference.table_writers import open_writer
from sentiment.runs.folder import read_run
from sentiment.runs.lineage import list_base_runs, load_labelled_keys
from sentiment.storage import write_atomically

COLUMNS = ("row", "text", "label", "predicted_label", "score", "why")
CHUNK_SIZE = 1024  # texts that are read and tokenized together
UNCERTAIN_BELOW = 0.8  # score below which a text is called uncertain


@dataclass(frozen=True)
class Suggestions:
    """Rows with `COLUMNS`, in the order of the draws, how many rows were read and left out, and missing records.

    `names` are those of the columns `text` and `label` in the output, as in the labelled reviews of the run.
    """

    records: list[dict[str, Any]]
    rows: int
    left_out: dict[str, int]
    warnings: list[str]
    names: dict[str, str]

    def __str__(self) -> str:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        line = f"{len(self.records):,} suggestions from {self.rows:,} rows"
        return f"{line}; left out: {left_out}" if left_out else line


def suggest_reviews(
    model: str,
    dataset: str,
    count: int,
    seed: int,
    data_dir: str | None = None,
    split: str | None = None,
    labels: LabelOptions | None = None,
    **reading: Any,
) -> Suggestions:
    """The unlabelled reviews of a dataset to label next (`sample_badge`), at most `count`.

    Left out are rows with a label, blank texts, and near-duplicates of each other; texts of labelled rows here and in
    the runs behind the model, which equal ones but for case, punctuation, spaces and tags.

    Args:
        model: the folder of a fine-tuning.
        dataset: as for `load_reviews`.
        count: suggestions.
        seed: of the draws.
        data_dir: folder with local copies of datasets.
        split: published split; default: `unsupervised` if there is one, else all but validation and test.
        labels: what label values mean.
        reading: further arguments of `load_reviews`.

    Raises:
        InputError: no trained classifier, no readable dataset, or no review that can be suggested.
    """
    require(count > 0, f"--count {count}: at least 1")
    require(seed >= 0, f"--seed {seed}: at least 0")
    checkpoint = load_checkpoint(model)
    options = replace(labels or LabelOptions(), known=checkpoint.labels)
    reviews = load_reviews(dataset, data_dir, labels=options, **reading)
    pool = concatenate_datasets([reviews[name] for name in choose_splits(dataset, list(reviews), split or "auto")])
    hashed = map_batches(pool.select_columns(["text"]), hash_batch, None, {"cleaning": checkpoint.cleaning})
    on_record, warnings = load_labelled_keys(model)
    candidates, left_out = find_candidates(pool, hashed, on_record)
    found = Suggestions([], len(pool), left_out, warnings, read_column_names(model))
    require(len(candidates) > 0, f"{dataset} has nothing to suggest: {found}")
    probabilities, embeddings = compute_embeddings(checkpoint, hashed.select(candidates))
    seen, left_out["near-duplicates of a suggestion"] = NearDuplicates(), 0

    def is_redundant(place: int) -> bool:
        is_near = seen.add(pool[int(candidates[place])]["text"])
        left_out["near-duplicates of a suggestion"] += is_near
        return is_near

    chosen = sample_badge(probabilities, embeddings, count, seed, is_redundant)
    if len(chosen) < count:
        left_out["alike to a suggestion for the model"] = (
            len(candidates) - len(chosen) - left_out["near-duplicates of a suggestion"]
        )
    for place in chosen:
        row = int(candidates[place])
        prediction = describe_prediction(checkpoint.labels, probabilities[place], is_first=place == chosen[0])
        found.records.append({"row": row + 1, "text": pool[row]["text"], "label": None} | prediction)
    return found


def read_column_names(model: str) -> dict[str, str]:
    """The names of the columns `text` and `label` in the reviews of a model's run, as far as its options give them.

    Several text columns are joined, and have no one name.
    """
    runs = list_base_runs(model)
    options = read_run(runs[0])["options"] if runs else {}
    text, label = options.get("text_column_names") or "text", options.get("label_column_name") or "label"
    return {"text": "text" if "," in text else text.strip(), "label": label.strip()}


def find_candidates(pool: Dataset, hashed: Dataset, on_record: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The rows that can be suggested, and how many are left out by reason.

    Args:
        pool: rows with `label`.
        hashed: the `hash` of each text.
        on_record: hashes of the texts of labelled rows in the runs behind the model.
    """
    is_unlabelled = np.asarray(pool["label"][:]) == UNLABELLED
    labelled_here = np.asarray(hashed.select(np.flatnonzero(~is_unlabelled))["hash"][:], dtype=np.uint64)
    unlabelled = np.flatnonzero(is_unlabelled)
    usable, dropped = find_usable(hashed.select(unlabelled), np.union1d(on_record, labelled_here))
    left_out = {
        "with a label": len(pool) - len(unlabelled),
        "with a blank text": dropped["empty"],
        "duplicates": dropped["duplicates"],
        "with the text of a labelled row": dropped["in_test"],
    }
    return unlabelled[usable], left_out


def compute_embeddings(checkpoint: Checkpoint, cleaned: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities, shape (texts, classes), and inputs of the output layer, (texts, hidden size)."""
    backend = TorchBackend(checkpoint, "auto")
    parts = []
    with tqdm(total=len(cleaned), desc="Reading", unit="texts", disable=None) as bar:
        for chunk in cleaned.iter(batch_size=CHUNK_SIZE):
            input_ids = checkpoint.encode_cleaned(chunk["text"])
            order = sort_into_batches(input_ids)
            batches = [backend.compute_embeddings([input_ids[place] for place in batch]) for batch in order]
            places = np.argsort(np.concatenate(order))
            parts.append([np.concatenate(values)[places] for values in zip(*batches, strict=True)])
            bar.update(len(input_ids))
    logits, embeddings = (np.concatenate(values) for values in zip(*parts, strict=True))
    check_finite(logits)
    return compute_probabilities(logits / checkpoint.temperature), embeddings


def describe_prediction(labels: Sequence[str], probabilities: np.ndarray, is_first: bool) -> dict[str, Any]:
    """The columns `predicted_label`, `score` and `why` of a suggestion."""
    first, second = (f"{labels[place]} ({probabilities[place]:.2f})" for place in np.argsort(-probabilities)[:2])
    label, score = labels[int(probabilities.argmax())], float(probabilities.max())
    if score < UNCERTAIN_BELOW:
        why = f"uncertain between {first} and {second}"
    else:
        why = f"{first}, but would change the model most" if is_first else f"{first}, but unlike the texts above"
    return {"predicted_label": label, "score": round(score, 6), "why": why}


def write_suggestions(suggestions: Suggestions, output: Path) -> None:
    """Write the rows to a file in the format of its suffix, one of `SUFFIXES`; it appears when it is complete."""
    names = suggestions.names
    records = [{names.get(key, key): value for key, value in record.items()} for record in suggestions.records]
    columns = [names.get(name, name) for name in COLUMNS]
    with (
        exit_on_sigterm(),
        write_atomically(output) as staged,
        open_writer(staged, output.suffix.lower(), columns, records) as writer,
    ):
        writer.write(records)
