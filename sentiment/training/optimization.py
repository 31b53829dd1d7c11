"""The optimizer: one learning rate per layer, and the schedule of the rates."""

import re
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, SchedulerType, TrainingArguments, get_scheduler

from sentiment.exceptions import require

LAYER_NAME = re.compile(r"\.encoder\.layer\.(\d+)\.")


def layer_scale(name: str, num_layers: int, decay: float) -> float:
    """Learning-rate multiplier of one parameter, by its distance from the head.

    Layers count from the top: the last encoder layer is scaled by `decay` once, the first by
    `decay ** num_layers`, the embeddings once more; pooler and head keep 1.0.
    Discriminative fine-tuning, Howard & Ruder 2018 (arXiv:1801.06146), section 3.1.

    >>> layer_scale("bert.encoder.layer.11.output.dense.bias", num_layers=12, decay=0.5)
    0.5
    >>> layer_scale("bert.embeddings.LayerNorm.weight", num_layers=2, decay=0.5)
    0.125
    """
    return decay ** layer_depth(name, num_layers)


def layer_depth(name: str, num_layers: int) -> int:
    """How far a parameter lies below the head: 0 for head and pooler, 1 for the last layer, ... , the embeddings last.

    >>> layer_depth("classifier.weight", 12), layer_depth("bert.embeddings.word_embeddings.weight", 12)
    (0, 13)
    """
    if match := LAYER_NAME.search(name):
        return num_layers - int(match[1])
    return num_layers + 1 if ".embeddings." in name else 0


def build_parameter_groups(
    model: PreTrainedModel, lr: float, head_lr: float | None, layer_decay: float, weight_decay: float
) -> list[dict[str, object]]:
    """Every trainable parameter in exactly one group, ordered from the head down to the embeddings.

    Groups differ in rate (head, then pooler and each layer by `layer_scale`) and in weight decay, which falls on
    matrices only. The order depends on the model's shape alone, so that a saved optimizer state fits again.

    Args:
        model: a BERT with any head, its encoder under a name that ends in `encoder.layer`.
        lr: rate of the pooler, which the layers below are scaled from.
        head_lr: rate of the other parameters (the linear head); default: `lr`.
        layer_decay: factor from one layer to the one below; 1.0 gives every layer the same rate.
        weight_decay: of parameters with two or more dimensions; biases and layer norms get none.
    """
    num_layers = model.config.num_hidden_layers
    groups: dict[tuple[int, bool], dict[str, object]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = layer_depth(name, num_layers) if name.startswith("bert.") else -1
        is_matrix = parameter.ndim >= 2
        rate = lr * layer_scale(name, num_layers, layer_decay) if depth >= 0 else (head_lr or lr)
        group = groups.setdefault(
            (depth, not is_matrix),
            {
                "params": [],
                "lr": rate,
                "weight_decay": weight_decay if is_matrix else 0.0,
                "name": f"{'head' if depth < 0 else f'depth {depth}'}, {'matrices' if is_matrix else 'vectors'}",
            },
        )
        group["params"].append(parameter)  # type: ignore[attr-defined]
    ordered = [groups[key] for key in sorted(groups)]
    grouped = [id(parameter) for group in ordered for parameter in group["params"]]  # type: ignore[attr-defined]
    trainable = [id(parameter) for parameter in model.parameters() if parameter.requires_grad]
    assert sorted(grouped) == sorted(trainable), "each trainable parameter belongs to exactly one group"
    return ordered


def build_head_first_schedule(
    optimizer: torch.optim.Optimizer, args: TrainingArguments, num_training_steps: int, num_head_steps: int
) -> LambdaLR:
    """The schedule of `--lr_scheduler_type` in which only the head has a rate above 0 for `num_head_steps` steps.

    The head's groups (names that begin with `head`) follow the schedule over all steps, the others over the steps that
    remain. Rates of 0 rather than parameters without gradients: AdamW leaves weights unchanged at a rate of 0, the
    optimizer keeps its shape through a resume, and DDP needs no special treatment.

    Raises:
        InputError: a schedule that is no function of the step, such as reduce_lr_on_plateau.
    """
    schedules = [build_multiplier(args, steps) for steps in (num_training_steps, num_training_steps - num_head_steps)]

    def multiply_after_head(step: int) -> float:
        return schedules[1](step - num_head_steps) if step >= num_head_steps else 0.0

    is_head = [str(group.get("name", "")).startswith("head") for group in optimizer.param_groups]
    return LambdaLR(optimizer, [schedules[0] if head else multiply_after_head for head in is_head])


def build_multiplier(args: TrainingArguments, num_training_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate by step, as `--lr_scheduler_type` and `--warmup_steps` say."""
    schedule = get_scheduler(
        args.lr_scheduler_type,
        torch.optim.SGD([torch.zeros(1)], lr=1.0),
        num_warmup_steps=args.get_warmup_steps(num_training_steps),
        num_training_steps=num_training_steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,  # type: ignore[arg-type]
    )
    name = SchedulerType(args.lr_scheduler_type).value
    require(
        isinstance(schedule, LambdaLR),
        f"--lr_scheduler_type {name} cannot follow --head_warmup_ratio: pass --head_warmup_ratio 0",
    )
    multiplier: Callable[[int], float] = schedule.lr_lambdas[0]
    return multiplier
