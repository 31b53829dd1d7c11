"""The optimizer: one learning rate per layer, and the schedule of the rates."""

from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, SchedulerType, TrainingArguments, get_scheduler

from sentiment.exceptions import require


def compute_depths(model: PreTrainedModel) -> dict[torch.nn.Parameter, int]:
    """How far each parameter lies below the head.

    - -1: the head, which is everything outside the encoder.
    - 0: what comes after the encoder's layers, such as BERT's pooler or a final norm.
    - 1 for the last layer to n for the first. Layers that share their weights, as ALBERT's do, are one layer.
    - n + 1: the embeddings, and what all layers share, such as DeBERTa's relative positions.
    """
    encoder = model.base_model
    lists = find_layer_lists(encoder)
    num_layers = len(next(iter(lists.values())))
    holder = next(iter(lists)).rpartition(".")[0]  # of the layers and what they share; empty if the encoder itself is
    depths, is_above = {}, False
    for name, parameter in encoder.named_parameters():
        if found := next((found for found in lists if name.startswith(f"{found}.")), None):
            depths[parameter] = num_layers - int(name.removeprefix(f"{found}.").partition(".")[0])
            is_above = True  # parameters come in the order of the forward pass
        else:
            is_shared = "embed" in name or bool(holder and name.startswith(f"{holder}."))
            depths[parameter] = 0 if is_above and not is_shared else num_layers + 1
    return {parameter: depths.get(parameter, -1) for parameter in model.parameters()}


def find_layer_lists(encoder: torch.nn.Module) -> dict[str, torch.nn.ModuleList]:
    """The encoder's layers: its largest `nn.ModuleList`, by name, and any beside it (XLM has a list for each part)."""
    outer: dict[str, torch.nn.ModuleList] = {}
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.ModuleList) and not name.startswith(tuple(f"{found}." for found in outer)):
            outer[name] = module
    require(bool(outer), f"{type(encoder).__name__} has no list of layers, which layer-wise learning rates need")
    largest = max(outer, key=lambda name: sum(parameter.numel() for parameter in outer[name].parameters()))
    parent, length = largest.rpartition(".")[0], len(outer[largest])
    beside = {name: found for name, found in outer.items() if (name.rpartition(".")[0], len(found)) == (parent, length)}
    return {largest: outer[largest]} | beside


def build_parameter_groups(
    model: PreTrainedModel, lr: float, head_lr: float | None, layer_decay: float, weight_decay: float
) -> list[dict[str, object]]:
    """Every trainable parameter in exactly one group, ordered from the head down to the embeddings.

    Groups differ in rate and in weight decay, which falls on matrices only. Their order depends on the model's shape
    alone, so that a saved optimizer state fits again. Layers are scaled by `layer_decay` to the power of their depth
    (`compute_depths`): discriminative fine-tuning, Howard & Ruder 2018 (arXiv:1801.06146), section 3.1.

    Args:
        model: an encoder of any type with any head.
        lr: rate of the pooler, which the layers below are scaled from.
        head_lr: rate of the other parameters (the linear head); default: `lr`.
        layer_decay: factor from one layer to the one below; 1.0 gives every layer the same rate.
        weight_decay: of parameters with two or more dimensions; biases and layer norms get none.
    """
    depths = compute_depths(model)
    groups: dict[tuple[int, bool], dict[str, object]] = {}
    for parameter, depth in depths.items():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2
        rate = lr * layer_decay**depth if depth >= 0 else (head_lr or lr)
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
