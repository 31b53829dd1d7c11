"""What comes with a model, a checkpoint or a dataset is data: none of it is run, and nobody outside is asked."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.data.sources import load_reviews
from sentiment.exceptions import InputError, TrainingInterrupted
from sentiment.inference.checkpoint import load_checkpoint
from sentiment.models.classifier import load_classifier, load_trained_classifier
from sentiment.models.loading import load_tokenizer
from sentiment.models.masked_lm import load_masked_lm
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.runs.lineage import KEYS_FILE, check_adapted_model
from sentiment.training.checkpoints import write_manifest

ROOT = Path(__file__).parents[1]
MODEL_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("adapter_config.json", "adapter_model.bin", "adapter_model.safetensors", "generation_config.json"),
    *("training_args.bin", "optimizer.pt", "modeling.py", "configuration.py", "tokenization.py"),
)
READERS: tuple[Callable[[str], Any], ...] = (
    load_tokenizer,
    lambda path: load_classifier(path, dropout=0.0),
    load_trained_classifier,
    load_masked_lm,
    load_checkpoint,
)


class Payload:
    """What is unpickled as a call that leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def write_payload(path: Path, marker: Path, way: str) -> None:
    """The payload as a plain pickle, or in the two formats of torch.save."""
    path.unlink(missing_ok=True)
    if way == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
    else:
        torch.save(Payload(marker), path, _use_new_zipfile_serialization=way == "zip")


@pytest.mark.parametrize("way", ["pickle", "zip"])
def test_the_payload_works(way: str, tmp_path: Path) -> None:
    write_payload(tmp_path / "payload", tmp_path / "marker", way)
    if way == "zip":
        torch.load(tmp_path / "payload", weights_only=False)
    else:
        pickle.loads((tmp_path / "payload").read_bytes())
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("way", ["pickle", "zip"])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_planted_pickle_in_a_model_never_runs(
    name: str, alone: bool, way: str, tiny_classifier: Path, tmp_path: Path
) -> None:
    """In place of the file or beside the others, with the weights in safetensors or without."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    if alone:
        (folder / "model.safetensors").unlink()
    write_payload(folder / name, tmp_path / "marker", way)
    for read in READERS:
        with suppress(InputError):
            read(str(folder))
    assert not (tmp_path / "marker").exists()


def test_weights_in_a_pickle_are_refused(tiny_classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    torch.save(load_trained_classifier(str(folder)).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no file named model\.safetensors"):
        load_trained_classifier(str(folder))


def test_a_planted_pickle_in_the_hashes_of_an_adaptation_never_runs(tmp_path: Path, tiny_bert: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "mlm" / "model")
    write_payload(tmp_path / "mlm" / KEYS_FILE, tmp_path / "marker", "pickle")
    with suppress(InputError):
        check_adapted_model(str(tmp_path / "mlm"))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_config_that_names_code_is_refused(name: str, tiny_classifier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_classifier, folder)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n", encoding="utf-8")
    config = json.loads((folder / name).read_text(encoding="utf-8"))
    config["auto_map"] = {
        "AutoConfig": "code.Config",
        "AutoModel": "code.Model",
        "AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"],
    }
    (folder / name).write_text(json.dumps(config), encoding="utf-8")
    readers = READERS[1:] if name == "config.json" else READERS[:1]
    for read in readers:
        with pytest.raises(InputError, match="names code to be run with it"):
            read(str(folder))
    assert not (tmp_path / "marker").exists()


def test_a_script_in_a_dataset_never_runs(tmp_path: Path) -> None:
    data = tmp_path / "reviews"
    data.mkdir()
    for name in ("reviews.py", "dataset_infos.py", "__init__.py"):
        (data / name).write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n", encoding="utf-8")
    (data / "train.csv").write_text("text,label\ngood,1\nbad,0\n", encoding="utf-8")
    with suppress(InputError):
        load_reviews(str(data), None)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_planted_pickle_in_a_checkpoint_never_runs(
    name: str, tiny_bert: Path, reviews_csv: Path, signal_at: Callable[..., Any], tmp_path: Path
) -> None:
    """Even where its manifest agrees."""
    run_dir = tmp_path / "run"

    def train(resume: bool) -> None:
        data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32, max_rows="200")
        args = FinetuningArguments(output_dir=str(run_dir), batch_size=32, num_train_epochs=1, resume=resume)
        FinetuningRun("e2e", ModelArguments(str(tiny_bert)), data_args, args).execute()

    with signal_at(2, signal.SIGTERM), pytest.raises(TrainingInterrupted):
        train(resume=False)
    (checkpoint,) = (run_dir / "checkpoints").glob("checkpoint-*")
    write_payload(checkpoint / name, tmp_path / "marker", "zip")
    write_manifest(checkpoint, world_size=1)
    if name == "training_args.bin":  # which nobody reads
        train(resume=True)
    else:
        with pytest.raises(InputError, match="cannot resume from"):
            train(resume=True)
    assert not (tmp_path / "marker").exists()


# In every Python process that finds it: each address outside of the machine that is asked for goes to a file.
WATCH_SOCKETS = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments
    else:
        return
    if isinstance(address, tuple) and str(address[0]) not in ("127.0.0.1", "localhost", "::1", "None"):
        with open(os.environ["WATCHED_SOCKETS"], "a") as file:
            file.write(f"{event} {address}\\n")

sys.addaudithook(watch)
"""


def test_no_socket_leaves_the_machine(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> None:
    """In training, evaluation and serving, with HF_HUB_OFFLINE=1."""
    (tmp_path / "sitecustomize.py").write_text(WATCH_SOCKETS, encoding="utf-8")
    watched = tmp_path / "watched"
    environment = os.environ | {"WATCHED_SOCKETS": str(watched), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])

    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True, cwd=ROOT)

    call("-c", "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))")
    assert "192.0.2.1" in watched.read_text(encoding="utf-8")  # it does watch
    watched.unlink()

    shared = ["--model", str(tiny_bert), "--max_seq_length", "32", "--num_train_epochs", "1"]
    mlm, run = str(tmp_path / "mlm"), str(tmp_path / "run")
    call(
        "train_mlm.py",
        *shared,
        "--dataset",
        str(reviews_csv),
        "--target_dataset",
        str(reviews_csv),
        "--output_dir",
        mlm,
    )
    call("train_finetune.py", *shared, "--model", mlm, "--dataset", str(reviews_csv), "--output_dir", run)
    call("-m", "sentiment", "evaluate", run, "--dataset", str(reviews_csv))
    call("-m", "sentiment", "verify", run)
    serve(run, environment)
    assert not watched.exists(), watched.read_text(encoding="utf-8")


def serve(run: str, environment: dict[str, str]) -> None:
    """Has a server answer once."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "sentiment", "serve", run, "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        body = json.dumps({"sentences": ["good"]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/query", body, {"Content-Type": "application/json"})
        for _ in range(600):
            try:
                assert json.load(urllib.request.urlopen(request, timeout=10))["labels"]
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("the server did not answer")
        server.terminate()
