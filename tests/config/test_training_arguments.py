"""Options of transformers' `TrainingArguments`: each takes effect, or is refused in one line that says why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from sentiment.config.arguments import DataArguments, FinetuningArguments, ModelArguments
from sentiment.config.parsing import parse_arguments
from sentiment.config.run_arguments import REFUSED
from sentiment.data.finetuning_data import RunData
from sentiment.exceptions import InputError
from sentiment.models.loading import load_tokenizer
from sentiment.pipelines.finetuning import FinetuningRun
from sentiment.training.callbacks import ManifestCallback
from sentiment.training.progress import LineProgressCallback
from sentiment.training.trainer import SentimentTrainer

Build = Callable[..., SentimentTrainer]


@pytest.fixture(scope="module")
def data(tiny_bert: Path, reviews_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> RunData:
    args = FinetuningArguments(output_dir=str(tmp_path_factory.mktemp("run")))
    data_args = DataArguments(dataset_name=str(reviews_csv), max_seq_length=32, max_rows="120")
    return FinetuningRun("e2e", ModelArguments(str(tiny_bert)), data_args, args).prepare_data(
        load_tokenizer(str(tiny_bert))
    )


@pytest.fixture
def build(tiny_bert: Path, data: RunData, tmp_path: Path) -> Build:
    """`build("--optim", "sgd")`: the Trainer that a fine-tuning with these flags uses."""

    def build_trainer(*flags: str) -> SentimentTrainer:
        defaults = {"output_dir": str(tmp_path / "run"), "precision": "auto" if "--bf16" in flags else "fp32"}
        (args,) = parse_arguments([FinetuningArguments], [*flags], defaults)
        run = FinetuningRun("e2e", ModelArguments(str(tiny_bert)), DataArguments(), args)
        return run.build_trainer(run.load_model(data, str(tiny_bert)), data, load_tokenizer(str(tiny_bert)))

    return build_trainer


def get_group(trainer: SentimentTrainer) -> dict[str, Any]:
    return trainer.create_optimizer().param_groups[0]


def get_rate(trainer: SentimentTrainer, step: int, steps: int = 100) -> float:
    trainer.create_optimizer_and_scheduler(steps)
    schedule: Any = trainer.lr_scheduler
    return float(schedule.lr_lambdas[0](step))


def find(trainer: SentimentTrainer, kind: type) -> Any:
    return next((one for one in trainer.callback_handler.callbacks if isinstance(one, kind)), None)


EFFECTS: list[tuple[str, Callable[[SentimentTrainer], object]]] = [
    ("--learning_rate 0.25", lambda trainer: get_group(trainer)["lr"] == 0.25),
    ("--weight_decay 0.5", lambda trainer: get_group(trainer)["weight_decay"] == 0.5),
    ("--adam_beta1 0.5", lambda trainer: get_group(trainer)["betas"][0] == 0.5),
    ("--adam_beta2 0.5", lambda trainer: get_group(trainer)["betas"][1] == 0.5),
    ("--adam_epsilon 0.5", lambda trainer: get_group(trainer)["eps"] == 0.5),
    ("--optim adamw_torch", lambda trainer: not get_group(trainer)["fused"]),
    ("--optim sgd", lambda trainer: isinstance(trainer.create_optimizer(), torch.optim.SGD)),
    ("--optim adagrad", lambda trainer: isinstance(trainer.create_optimizer(), torch.optim.Adagrad)),
    ("--optim rmsprop --optim_args alpha=0.5", lambda trainer: get_group(trainer)["alpha"] == 0.5),
    ("--warmup_steps 0.5", lambda trainer: get_rate(trainer, 25) == 0.5),
    ("--warmup_steps 10", lambda trainer: get_rate(trainer, 5) == 0.5),
    ("--lr_scheduler_type constant", lambda trainer: get_rate(trainer, 99) == 1.0),
    ("--lr_scheduler_type cosine --warmup_steps 0", lambda trainer: 0.85 < get_rate(trainer, 25) < 0.86),
    (
        '--lr_scheduler_type cosine --warmup_steps 0 --lr_scheduler_kwargs {"num_cycles":1}',
        lambda trainer: get_rate(trainer, 50) == pytest.approx(0.0),
    ),
    ("--per_device_train_batch_size 7", lambda trainer: trainer.get_train_dataloader().total_batch_size == 7),
    ("--per_device_eval_batch_size 7", lambda trainer: trainer.get_eval_dataloader().total_batch_size == 7),
    ("--batch_size 30 --gradient_accumulation_steps 3", lambda trainer: trainer.args.train_batch_size == 10),
    ("--batch_size 32 --dataloader_drop_last", lambda trainer: len(trainer.get_train_dataloader()) == 3),
    ("--dataloader_num_workers 1", lambda trainer: trainer.get_train_dataloader().num_workers == 1),
    (
        "--dataloader_num_workers 1 --dataloader_prefetch_factor 5",
        lambda trainer: trainer.get_train_dataloader().prefetch_factor == 5,
    ),
    ("--data_seed 5", lambda trainer: trainer.build_sampler().seed == 5),
    ("--train_sampling_strategy sequential", lambda trainer: list(trainer.build_sampler()) == list(range(96))),
    ("--label_smoothing_factor 0.1", lambda trainer: trainer.label_smoother.epsilon == 0.1),
    ("--neftune_noise_alpha 5", lambda trainer: trainer.neftune_noise_alpha == 5),
    ("--max_steps 3", lambda trainer: trainer.train().global_step == 3),
    ("--num_train_epochs 0.5 --batch_size 24", lambda trainer: trainer.train().global_step == 2),
    (
        "--max_steps 1 --activation_checkpointing",
        lambda trainer: trainer.train().global_step == 1 and trainer.model.is_activation_checkpointing,
    ),
    (
        "--max_steps 4 --eval_strategy steps --eval_steps 2",
        lambda trainer: trainer.train() and [entry["step"] for entry in get_evaluations(trainer)] == [2, 4],
    ),
    ("--max_steps 1 --eval_on_start", lambda trainer: trainer.train() and get_evaluations(trainer)[0]["step"] == 0),
    (
        "--max_steps 4 --eval_strategy steps --eval_steps 2 --eval_delay 3",
        lambda trainer: trainer.train() and [entry["step"] for entry in get_evaluations(trainer)] == [4],
    ),
    (
        "--max_steps 4 --logging_strategy steps --logging_steps 1",
        lambda trainer: trainer.train() and sum("loss" in entry for entry in trainer.state.log_history) == 4,
    ),
    ("--max_steps 3 --logging_strategy steps --logging_steps 3", lambda trainer: "grad_norm" in train_and_log(trainer)),
    ("--metric_for_best_model f1", lambda trainer: abs(select(trainer)["selection"] - select(trainer)["f1"]) < 1e-8),
    ("--metric_for_best_model loss", lambda trainer: select(trainer)["selection"] == -select(trainer)["loss"]),
    ("--save_total_limit 5", lambda trainer: find(trainer, ManifestCallback).save_total_limit == 5),
    ("--report_to tensorboard", lambda trainer: find(trainer, TensorBoardCallback) is not None),
    ("--disable_tqdm true", lambda trainer: find(trainer, LineProgressCallback) is None),
    ("--bf16", lambda trainer: trainer.accelerator.mixed_precision == "bf16"),
    ("--precision bf16", lambda trainer: trainer.accelerator.mixed_precision == "bf16"),
    ("--seed 5", lambda trainer: trainer.args.seed == trainer.build_sampler().seed == 5),
    ("--max_grad_norm 0.5", lambda trainer: trainer.args.max_grad_norm == 0.5),
    ("--run_name mine", lambda trainer: trainer.args.run_name == "mine"),
    ("--ddp_timeout 60", lambda trainer: trainer.args.ddp_timeout == 60),
]
REFUSALS = [
    ("--fsdp full_shard", "fsdp"),
    ("--deepspeed ds.json", "deepspeed"),
    ("--torch_compile", "torch_compile"),
    ("--torch_compile_backend eager", "torch_compile_backend"),
    ("--torch_compile_mode default", "torch_compile_mode"),
    ("--accelerator_config {}", "accelerator_config"),
    ("--do_train false", "do_train"),
    ("--do_predict", "do_predict"),
    ("--bf16_full_eval", "bf16_full_eval"),
    ("--fp16_full_eval", "fp16_full_eval"),
    ("--load_best_model_at_end false", "load_best_model_at_end"),
    ("--eval_strategy no", "eval_strategy"),
    ("--save_strategy steps", "save and eval strategy"),
    ("--save_only_model", "save_only_model"),
    ("--ignore_data_skip", "ignore_data_skip"),
    ("--use_liger_kernel", "use_liger_kernel"),
    ("--auto_find_batch_size", "auto_find_batch_size"),
    ("--batch_eval_metrics", "batch_eval_metrics"),
    ("--prediction_loss_only", "prediction_loss_only"),
    ("--enable_jit_checkpoint", "enable_jit_checkpoint"),
    ("--dataloader_num_workers 1 --dataloader_persistent_workers", "dataloader_persistent_workers"),
    ("--remove_unused_columns false", "remove_unused_columns"),
    ("--include_num_input_tokens_seen all", "include_num_input_tokens_seen"),
    ("--hub_strategy every_save", "hub_strategy"),
    ("--report_to wandb", "wandb is not installed"),
    ("--optim galore_adamw --optim_target_modules attn", "optim_target_modules"),
    ("--optim nonsense", "optim"),
    ("--lr_scheduler_type nonsense", "lr_scheduler_type"),
    ("--train_sampling_strategy batch_rebalance", "train_sampling_strategy"),
    ("--metric_for_best_model bleu", "metric_for_best_model"),
    ("--fp16", "CUDA"),
    ("--bf16 --fp16", "one number format"),
    ("--batch_size 8 --per_device_train_batch_size 8", "contradict"),
]


def get_evaluations(trainer: SentimentTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "eval_loss" in entry]


def select(trainer: SentimentTrainer) -> dict[str, Any]:
    """The metrics of four rows, one of them wrong, among them what chooses the best checkpoint."""
    logits, labels = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 0, 0])
    assert trainer.compute_metrics is not None
    return trainer.compute_metrics(EvalPrediction(logits, labels))


def train_and_log(trainer: SentimentTrainer) -> dict[str, Any]:
    trainer.train()
    return next(entry for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize(("flags", "has_effect"), EFFECTS, ids=[flags for flags, _ in EFFECTS])
def test_an_option_takes_effect(build: Build, flags: str, has_effect: Callable[[SentimentTrainer], object]) -> None:
    assert has_effect(build(*flags.split()))


@pytest.mark.parametrize(("flags", "message"), REFUSALS, ids=[flags for flags, _ in REFUSALS])
def test_an_option_is_refused_in_one_line(flags: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError) as refusal:
        parse_arguments([FinetuningArguments], flags.split())
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refused_options_exist_in_transformers() -> None:
    assert set(REFUSED) <= set(TrainingArguments.__dataclass_fields__)


def test_optimizers_with_groups_of_their_own_are_refused(build: Build) -> None:
    trainer = build("--optim", "sgd")
    trainer.get_optimizer_cls_and_kwargs = lambda *_: (torch.optim.SGD, {"optimizer_dict": {}})  # type: ignore[method-assign]
    with pytest.raises(InputError, match="builds its own parameter groups"):
        trainer.create_optimizer()


def test_several_gpus_need_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.TrainingArguments.n_gpu", 4)
    with pytest.raises(InputError, match="4 GPUs and one process: start it with `accelerate launch`"):
        FinetuningArguments()


@pytest.mark.parametrize(("flags", "calls"), [([], []), (["--full_determinism"], [42])])
def test_full_determinism_is_a_choice(
    build: Build, monkeypatch: pytest.MonkeyPatch, flags: list[str], calls: list[int]
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("transformers.trainer.enable_full_determinism", seeds.append)
    build(*flags)
    assert seeds == calls
