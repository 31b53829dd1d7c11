"""What tests share: a tiny BERT, tiny reviews, a cache of their own, and the real data where it is set."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported

import csv
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, RepoUrl
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AddedToken,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
)

from sentiment.data.labels import LABEL_NAMES
from sentiment.evaluation.metrics import compute_metrics
from sentiment.models.classifier import load_classifier

GOOD = ("good", "fine", "great", "moving", "funny", "bright")
BAD = ("bad", "dull", "awful", "boring", "empty", "tired")
NEUTRAL = ("the", "a", "film", "story", "plot", "and", "is", "not", "but", "very", "actor", "scene", "ending")


@pytest.fixture(scope="session", autouse=True)
def own_dataset_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what tests load out of the user's cache."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("datasets_cache")
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    patch.setenv("HF_DATASETS_CACHE", str(folder))
    datasets.disable_progress_bars()
    # Tiny products are slowed by threads, and most of all where other work holds the cores.
    torch.set_num_threads(1)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Processes started by tests take SIGINT, which a shell makes its background jobs ignore."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of two layers and 32 dimensions, random weights, and a tokenizer of 40 words."""
    return save_tiny_bert(tmp_path_factory.mktemp("tiny_bert"), num_hidden_layers=2)


@pytest.fixture(scope="session")
def tiny_bert_with_dropout(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with the dropout of a real one."""
    folder = tmp_path_factory.mktemp("with_dropout") / "bert"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def save_tiny_bert(folder: Path, num_hidden_layers: int) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL, ".", "##s", "##er"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_classifier(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a run leaves it; not trained, but with a head that answers differently from text to text."""
    folder = tmp_path_factory.mktemp("tiny_classifier")
    torch.manual_seed(1)
    model = load_classifier(str(tiny_bert), preprocessing={"cleaning": "light", "max_seq_length": 16})
    torch.nn.init.normal_(model.classifier.weight)
    model.classifier.bias.data[0] = 5.0  # so that it gives either label
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def build_classifier(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`build_classifier(class_names)`: the folder of a model as `tiny_classifier`, with these classes."""

    def build(class_names: Sequence[str]) -> Path:
        folder = tmp_path_factory.mktemp("classifier")
        torch.manual_seed(1)
        preprocessing = {"cleaning": "light", "max_seq_length": 16}
        model = load_classifier(str(tiny_bert), preprocessing=preprocessing, class_names=class_names)
        torch.nn.init.normal_(model.classifier.weight, std=2.0)
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        batch = tokenizer([text for text, _ in make_reviews(50)], padding=True, return_tensors="pt")
        with torch.inference_mode():
            model.classifier.bias.data -= model.eval()(**batch).logits.mean(dim=0)  # so that it gives every label
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


def make_reviews(rows: int, seed: int = 0) -> list[tuple[str, int]]:
    """Distinct made-up reviews whose label a word decides; half are positive."""
    generator = random.Random(seed)
    found: dict[str, int] = {}
    while len(found) < rows:
        label = len(found) % 2
        words = generator.choices(NEUTRAL, k=generator.randint(2, 12)) + [generator.choice(GOOD if label else BAD)]
        generator.shuffle(words)
        found.setdefault(" ".join(words), label)
    return list(found.items())


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 250 made-up reviews that a tiny BERT can learn."""
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(make_reviews(250))
    return path


@pytest.fixture(scope="session")
def build_reviews() -> Callable[..., DatasetDict]:
    """`build_reviews(train=[(text, label), ...], ...)` as sources give them."""

    def build(**splits: list[tuple[str, int]]) -> DatasetDict:
        features = Features(text=Value("string"), label=ClassLabel(names=["negative", "positive"]))
        return DatasetDict(
            {
                name: Dataset.from_dict(
                    {"text": [text for text, _ in rows], "label": [label for _, label in rows]},
                    features=features,
                )
                for name, rows in splits.items()
            }
        )

    return build


@pytest.fixture
def hub_commits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Commits to a stand-in for the Hub, each with `repo_id`, `message` and `files`: bytes by path when uploaded."""
    commits: list[dict[str, Any]] = []

    def create_repo(_self: HfApi, repo_id: str, **_: Any) -> RepoUrl:
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def create_commit(_self: HfApi, repo_id: str, operations: Any, commit_message: str, **_: Any) -> CommitInfo:
        files = {}
        for operation in operations:
            with operation.as_file() as stream:
                files[operation.path_in_repo] = stream.read()
        commits.append({"repo_id": repo_id, "message": commit_message, "files": files})
        url = f"https://huggingface.co/{repo_id}/commit/{len(commits):040x}"
        return CommitInfo(commit_url=url, commit_message=commit_message, commit_description="", oid=url[-40:])

    def upload_folder(
        self: HfApi, *, folder_path: str, run_as_future: bool = False, **options: Any
    ) -> CommitInfo | Future[CommitInfo]:
        paths = [path for path in Path(folder_path).rglob("*") if path.is_file()]
        operations = [CommitOperationAdd(str(path.relative_to(folder_path)), path) for path in paths]
        future: Future[CommitInfo] = Future()
        future.set_result(self.create_commit(operations=operations, **options))
        return future if run_as_future else future.result()

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    return commits


@pytest.fixture(scope="session")
def launch() -> Callable[..., Path]:
    """`launch(processes, script, output_dir, *flags)` runs a script of this repository on so many CPU processes."""
    root = Path(__file__).parents[1]

    def run_script(processes: int, script: str, output_dir: Path, *flags: str) -> Path:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command += [str(root / script), "--output_dir", str(output_dir), *flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return output_dir

    return run_script


@pytest.fixture
def find_free_port() -> Callable[[], int]:
    """A port of this machine that nobody listens on."""

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            return port

    return find


@pytest.fixture(scope="session")
def real_data_dir() -> str:
    """The folder with the published SST-2 and IMDB files; tests that need it are skipped, visibly, without it."""
    folder = os.environ.get("SENTIMENT_DATA_DIR")
    if not folder:
        pytest.skip("SENTIMENT_DATA_DIR is not set: tests on the published SST-2 and IMDB files are left out")
    return folder


@pytest.fixture
def write_finished_run(tiny_bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """`write_finished_run(name, wrong=[3, 8], learning_rate=...)`: the folder of a made-up fine-tuning of 40 test rows.

    `wrong` are the rows that get the other label, `record` replaces parts of run.json, and the rest are options.
    """

    def write(name: str, wrong: Sequence[int] = (), strategy: str = "e2e", record: Any = None, **options: Any) -> Path:
        texts, labels = zip(*make_reviews(40), strict=True)
        predicted = [1 - label if row in wrong else label for row, label in enumerate(labels)]
        after = compute_metrics(predicted, labels, LABEL_NAMES) | {"loss": 0.3}
        metrics = {
            "test": {"before": compute_metrics([1] * 40, labels, LABEL_NAMES) | {"loss": 0.7}, "after": after},
            "validation": after,
            "history": [{"epoch": epoch, "train_loss": 0.5, "validation": after} for epoch in (1, 2)],
            "best_epoch": 2,
            "resources": {"train_seconds": 100.0},
        }
        run = {
            "strategy": strategy,
            "options": {
                "model_name_or_path": "minilm",
                "dataset_name": "snippets",
                "split": "stratified",
                "cleaning": "light",
                "seed": 1,
            }
            | {"max_seq_length": 128, "output_dir": name}
            | options,
            "versions": {"torch": "2.13.0"},
            "hardware": {"device": "cpu", "name": "Chip", "cores": 2},
            "precision": "bf16",
            "data": {
                "fingerprints": {"train": "ab12", "validation": "cd34", "test": "ef56"},
                "audit": {"splits": {"train": {"rows": 320}}},
            },
        }
        folder = tmp_path / name
        shutil.copytree(tiny_bert, folder / "model")
        (folder / "run.json").write_text(json.dumps(run | (record or {})), encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        columns = {"row": list(range(40)), "text": texts, "label": labels, "predicted": predicted}
        probabilities = {"p_negative": [0.1 if label else 0.8 for label in predicted]}
        probabilities |= {"p_positive": [0.9 if label else 0.2 for label in predicted]}
        table = pa.table(columns | {"score": [0.9 if label else 0.8 for label in predicted]} | probabilities)
        pyarrow.parquet.write_table(table, folder / "predictions.parquet")
        return folder

    return write


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], AbstractContextManager[None]]:
    """`with signal_at(step, number)`: a training within sends itself a signal in that step, counted from 1."""

    @contextmanager
    def patch_progress(step: int, number: int) -> Iterator[None]:
        def send(_self: Any, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == step - 1:
                os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr("sentiment.training.callbacks.ManifestCallback.on_step_begin", send, raising=False)
            yield

    return patch_progress


WORDPIECE = {
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"
}  # fmt: skip
# The ids of RoBERTa: its padding is token 1.
BPE = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# Kinds of tokenizer and what the config needs besides `TINY`: 64 tokens, at most.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("unigram", {"embedding_size": 16, "max_position_embeddings": 64}),
    "bert": ("wordpiece", {"max_position_embeddings": 64}),
    "deberta-v2": (
        "unigram",
        {"max_position_embeddings": 64, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}
        | {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0, "conv_kernel_size": 3},
    ),
    "distilbert": ("wordpiece", {"max_position_embeddings": 64}),
    "electra": ("wordpiece", {"max_position_embeddings": 64, "embedding_size": 16}),
    "modernbert": ("bpe", {"max_position_embeddings": 64, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "roberta": ("bpe", {"max_position_embeddings": 66, "type_vocab_size": 1}),
    "xlm-roberta": ("unigram", {"max_position_embeddings": 66, "type_vocab_size": 1}),
}


@pytest.fixture(scope="session", params=sorted(ENCODERS))
def tiny_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an encoder of each kind, two layers and 32 dimensions with random weights, and its tokenizer."""
    return save_tiny_encoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def build_tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`build_tiny_encoder("roberta")`: the folder of a `tiny_encoder` of this kind."""
    return lambda kind: save_tiny_encoder(tmp_path_factory.mktemp(kind), kind)


def save_tiny_encoder(folder: Path, kind: str) -> Path:
    tokenizer_kind, settings = ENCODERS[kind]
    tokenizer = build_tokenizer(tokenizer_kind)
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{token}_token_id")
        for name, token in {"pad": "pad", "bos": "cls", "eos": "sep", "cls": "cls", "sep": "sep"}.items()
    }
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"), 0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), initializer_range=0.2, **TINY | special | dropouts | settings
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A WordPiece, BPE or Unigram tokenizer of the words of made-up reviews, like those of BERT, RoBERTa and XLM-R."""
    words = [*GOOD, *BAD, *NEUTRAL]
    if kind == "wordpiece":
        special = WORDPIECE
        vocabulary = [*special.values(), *words, "##s", "##er"]
        tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    elif kind == "bpe":
        special = BPE
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*special.values()], initial_alphabet=alphabet)
        tokenizer.train_from_iterator([" ".join(words)] * 3, trainer)
    else:
        special = BPE
        pieces = [*special.values(), *(f"▁{word}" for word in words), "▁", *"abcdefghijklmnopqrstuvwxyz."]
        tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=3))
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
    first, last = special["cls_token"], special["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    mask = AddedToken(special["mask_token"], lstrip=kind != "wordpiece", special=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special | {"mask_token": mask})
