"""Several processes that train together: decisions of the main process, and maxima over all of them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

from sentiment.environment import is_main_process
from sentiment.exceptions import InputError

Result = TypeVar("Result")


def run_on_main(function: Callable[[], Result]) -> Result:
    """The result of a function that the main process calls, in all processes; an error is raised in all of them.

    Other nodes need no access to the main process's disk. The result must be picklable.
    """
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome = [function(), None]
        except InputError as failure:
            failure.is_on_all_ranks = True
            outcome = [None, failure]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        outcome = broadcast_object_list(outcome)
    result, error = outcome
    if error is not None:
        raise error
    return cast(Result, result)


def all_reduce_max(args: TrainingArguments, *numbers: int) -> list[int]:
    """The maximum of each number over all processes; without any synchronisation for a single one."""
    if args.world_size == 1:
        return list(numbers)
    highest = torch.tensor(numbers, dtype=torch.int64, device=args.device)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    found: list[int] = highest.tolist()
    return found
