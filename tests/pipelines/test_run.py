"""What every run does: one process decides for all, logs reach TensorBoard, models reach the Hub, cores are used."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sentiment import adapt, finetune
from sentiment.environment import count_cores
from sentiment.exceptions import InputError, SaveError
from sentiment.training.hardware import use_all_cores
from sentiment.training.processes import run_on_main

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, str(ROOT / "train_e2e.py")]


def build_flags(tiny_bert: Path, reviews_csv: Path, output_dir: Path) -> list[str]:
    flags = ["--model", str(tiny_bert), "--dataset", str(reviews_csv), "--output_dir", str(output_dir)]
    return [*flags, "--max_seq_length", "32", "--precision", "fp32", "--num_train_epochs", "1", "--batch_size", "40"]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_tensorboard_reads_the_events(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = finetune(
        model_name_or_path=str(tiny_bert),
        dataset_name=str(reviews_csv),
        output_dir=tmp_path / "run",
        max_seq_length=32,
        num_train_epochs=2,
        report_to="tensorboard",
    )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/accuracy"} <= scalars
    logged = [event.value for event in events.Scalars("eval/accuracy")]
    assert logged == pytest.approx([entry["validation"]["accuracy"] for entry in metrics["history"]])


class HubHandler(BaseHTTPRequestHandler):
    """As much of the Hub's HTTP API as an upload needs; keeps the files of each commit."""

    commits: list[dict[str, bytes]] = []  # noqa: RUF012 - one Hub for the test

    def do_POST(self) -> None:
        length = self.headers.get("content-length")
        body = self.rfile.read(int(length)) if length else b"".join(self.read_chunks())
        if self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['host']}/user/run", "name": "user/run"})
        elif self.path == "/api/models/user/run/preupload/main":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif self.path == "/api/models/user/run/commit/main":
            lines = [json.loads(line)["value"] for line in body.splitlines()]
            files = {line["path"]: base64.b64decode(line["content"]) for line in lines if "path" in line}
            self.commits.append(files)
            url = f"http://{self.headers['host']}/user/run/commit/1"
            self.answer({"success": True, "commitUrl": url, "commitOid": "1", "commitMessage": ""})
        else:
            self.answer({})

    def read_chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), HubHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_push_to_hub_uploads_the_finished_model_with_its_card(
    tiny_bert: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    command = [*SCRIPT, *build_flags(tiny_bert, reviews_csv, tmp_path / "run"), "--push_to_hub", "--hub_token", "hf_x"]
    with serve_hub() as url:
        environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "/user/run/commit/1" in done.stderr
    (files,) = HubHandler.commits
    assert files == {
        path.relative_to(tmp_path / "run" / "model").as_posix(): path.read_bytes()
        for path in (tmp_path / "run" / "model").rglob("*")
        if path.is_file()
    }
    assert json.loads(files["config.json"])["architectures"] == ["BertForSequenceClassification"]
    assert b"model-index" in files["README.md"]
    assert "hf_x" not in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")


def test_a_hub_out_of_reach_is_said_before_training(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--push_to_hub: cannot create the repository run"):
        finetune(
            model_name_or_path=str(tiny_bert),
            dataset_name=str(reviews_csv),
            output_dir=tmp_path / "run",
            push_to_hub=True,
        )
    assert not (tmp_path / "run").exists()


def test_an_error_of_the_main_process_is_raised_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise InputError("no such file")

    with pytest.raises(InputError, match="no such file") as raised:
        run_on_main(fail)
    assert raised.value.is_on_all_ranks
    shared: list[Any] = [None, InputError("of rank 0")]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("sentiment.training.processes.broadcast_object_list", lambda _: shared)
    with pytest.raises(InputError, match="of rank 0"):
        run_on_main(lambda: pytest.fail("called in rank 1"))


@pytest.mark.parametrize("script", ["train_e2e.py", "train_mlm.py"])
def test_two_nodes_without_a_shared_disk(
    tiny_bert: Path, reviews_csv: Path, tmp_path: Path, script: str, find_free_port: Callable[[], int]
) -> None:
    """Two processes in two working folders: the second one has no metrics.json, and its own checkpoints."""
    flags = build_flags(tiny_bert, reviews_csv, Path("run"))
    flags += ["--target_dataset", "none"] if script == "train_mlm.py" else []
    flags += ["--save_on_each_node", "--resume"]
    nodes = [tmp_path / "first", tmp_path / "second"]
    for node in nodes:
        node.mkdir()

    def launch(*more: str) -> list[str]:
        port = str(find_free_port())
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank)]
                + ["--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", port]
                + [str(ROOT / script), *flags, *more],
                cwd=node,
                env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            for rank, node in enumerate(nodes)
        ]
        said = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        return said

    launch("--keep_checkpoints")
    metrics = read(nodes[0] / "run" / "metrics.json")
    assert not (nodes[1] / "run" / "metrics.json").exists()
    assert list((nodes[1] / "run" / "checkpoints").glob("checkpoint-*/rng_state_1.pth"))
    (nodes[0] / "run" / "metrics.json").unlink()
    assert "Resuming from run/checkpoints/checkpoint-" in launch()[0]
    assert read(nodes[0] / "run" / "metrics.json")["history"] == metrics["history"]
    assert not any((node / "run" / "checkpoints").exists() for node in nodes)


def test_a_log_has_lines_and_no_bars(tiny_bert: Path, reviews_csv: Path, tmp_path: Path) -> None:
    command = [*SCRIPT, *build_flags(tiny_bert, reviews_csv, tmp_path / "run")]
    cache = {"HF_DATASETS_CACHE": str(tmp_path / "cache")}  # with rows from it, datasets shows no bars anyway
    done = subprocess.run(command, env=os.environ | cache, capture_output=True, check=False)
    shown = done.stderr.decode()
    assert done.returncode == 0, shown
    assert "\r" not in shown
    assert "%|" not in shown
    assert "step 1 of 5, epoch 0.2, loss 0." in shown
    assert "epoch 1: train loss 0." in shown


def test_an_error_of_another_rank_reaches_the_terminal() -> None:
    code = "from sentiment.cli import run_command\nfrom sentiment.exceptions import InputError\n"
    code += "def fail(): raise InputError('no data here')\nrun_command(fail)"
    environment = os.environ | {"RANK": "1", "WORLD_SIZE": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error (rank 1): no data here\n")


def test_full_device_memory_is_one_line() -> None:
    code = "import torch\nfrom sentiment.cli import run_command\n"
    code += "def fail(): raise torch.OutOfMemoryError('CUDA out of memory.\\nTried to allocate')\nrun_command(fail)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: the device memory is full: lower --batch_size or --max_seq_length (CUDA out of memory.)\n"
    )


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (RuntimeError("[enforce fail at inline_container.cc:827] . PytorchStreamWriter failed writing file"), True),
        (OSError(28, "No space left on device"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("NCCL communicator was aborted"), False),
    ],
)
def test_only_a_full_disk_is_reported_as_one(
    tiny_bert: Path,
    reviews_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    is_full: bool,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(SaveError if is_full else type(error)):
        adapt(
            model_name_or_path=str(tiny_bert),
            dataset_name=str(reviews_csv),
            target_dataset="none",
            output_dir=tmp_path / "run",
            max_seq_length=32,
            num_train_epochs=1,
        )


def test_accelerate_launch_leaves_a_single_cpu_process_all_cores(
    tiny_bert: Path, reviews_csv: Path, tmp_path: Path
) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--num_processes", "1", "--cpu"]
    threads = {}
    for name, variables in (("default", {}), ("set by the user", {"OMP_NUM_THREADS": "1"})):
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | variables
        folder = tmp_path / name.replace(" ", "_")
        command = [*launch, str(ROOT / "train_e2e.py"), *build_flags(tiny_bert, reviews_csv, folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        threads[name] = read(folder / "run.json")["hardware"]["threads"]
    assert threads == {"default": count_cores(), "set by the user": 1}


def test_threads_are_left_alone_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    args: Any = SimpleNamespace(world_size=1, use_cpu=True)
    use_all_cores(args)
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (before, "1")
