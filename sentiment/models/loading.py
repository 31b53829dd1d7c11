"""Configs, weights and tokenizers read from a folder or the Hub, and nothing of them run."""

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from sentiment.exceptions import InputError, first_line
from sentiment.models.model_folder import refuse_remote_code

logger = logging.getLogger(__name__)
Model = TypeVar("Model", bound=PreTrainedModel)


def load_tokenizer(model_path: str, max_seq_length: int | None = None) -> PreTrainedTokenizerBase:
    """The fast tokenizer in a folder or of a Hub id.

    Args:
        model_path: a folder or a Hub id.
        max_seq_length: tokens that the tokenizer will say its model takes; what its files say where left out.

    Raises:
        InputError: its files are missing or damaged, or name code.
    """
    options = {} if max_seq_length is None else {"model_max_length": max_seq_length}
    try:
        refuse_remote_code(model_path, get_tokenizer_config(model_path))
        tokenizer = AutoTokenizer.from_pretrained(model_path, trust_remote_code=False, **options)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises whatever its parser raises
        raise InputError(f"cannot read the tokenizer of {model_path}: {first_line(error)}") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made up by transformers, which misses no file
        raise InputError(f"cannot read the tokenizer of {model_path}: no tokenizer.json or vocab.txt with words in it")
    if not tokenizer.is_fast:
        raise InputError(f"{model_path} has no fast tokenizer: save one with it (tokenizer.json)")
    return tokenizer


def warn_about_new_weights(model_path: str, missing_keys: Iterable[str], head: str) -> None:
    """Logs which weights the checkpoint does not bring, other than those of the head, which may well be fresh."""
    fresh = sorted(name for name in missing_keys if not name.startswith(head))
    if fresh:
        logger.warning("%s brings no weights for %s: these start fresh", model_path, ", ".join(fresh))


def load_bert_config(model_path: str) -> BertConfig:
    """The config in `model_path`.

    Raises:
        InputError: there is none, it names code, or it is not that of an encoder of BERT's kind.
    """
    try:
        settings, _ = PreTrainedConfig.get_config_dict(model_path)
        refuse_remote_code(model_path, settings)
        config = AutoConfig.from_pretrained(model_path, trust_remote_code=False)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the model {model_path}: {first_line(error)}") from error
    if not isinstance(config, BertConfig):
        raise InputError(f"{model_path} is a model of type {config.model_type}: only BERT models can be trained here")
    if config.is_decoder:
        raise InputError(f"{model_path} is a decoder (is_decoder in its config): its tokens see those before them only")
    return config


def load_weights(model_class: type[Model], model_path: str, config: BertConfig) -> tuple[Model, dict[str, Any]]:
    """The model in fp32 and transformers' loading info (`missing_keys`, ...), with nothing on the terminal.

    Weights are read from safetensors alone: the formats before it are pickles, which may run code.
    """
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = model_class.from_pretrained(
            model_path, config=config, dtype=torch.float32, output_loading_info=True, use_safetensors=True
        )
    except Exception as error:  # errors of safetensors and of shapes share no base class
        raise InputError(f"cannot load the weights of {model_path}: {first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()
    model, info = loaded
    return model, info
