"""Load configs, weights and tokenizers from a folder or the Hub without running their code; save plain checkpoints."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from sentiment.exceptions import InputError, first_line, require
from sentiment.models.fast_bert import FAST_DROPOUT_SDPA, is_enabled
from sentiment.models.model_folder import refuse_remote_code

logger = logging.getLogger(__name__)
Model = TypeVar("Model", bound=PreTrainedModel)


class PlainCheckpointMixin(PreTrainedModel):
    """Saves and uploads a model as its `plain_class`, whose name is in `config.json`: it loads without this package."""

    plain_class: ClassVar[type[PreTrainedModel]]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **options: Any) -> None:
        """Write weights and config; `PreTrainedModel.save_pretrained` documents the arguments."""
        with torch.device("meta"):  # no memory, no random numbers
            plain = nn.Module.to(self.plain_class(self.config), self.dtype)
        if options.get("state_dict") is None:
            options["state_dict"] = self.state_dict()
        # Transformers 5.23 lets rank 0 alone write weights, and leaves other nodes without (--save_on_each_node).
        plain.should_save_on_this_rank = lambda is_main_process: is_main_process  # type: ignore[method-assign]
        with without_progress_bar():
            plain.save_pretrained(save_directory, *args, **options)


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """No bars of transformers, which for the single file of an encoder say nothing."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


def load_tokenizer(
    model_path: str, max_seq_length: int | None = None, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder or Hub id; `max_seq_length` replaces its own `model_max_length`."""
    options: dict[str, Any] = {} if max_seq_length is None else {"model_max_length": max_seq_length}
    problem = f"cannot read the tokenizer of {model_path}"
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_path, revision=revision, trust_remote_code=False, **options)
    except Exception as error:  # parsers of damaged files raise exceptions of many types
        raise InputError(f"{problem}: {first_line(error)}") from error
    refuse_remote_code(model_path, tokenizer.init_kwargs)
    has_words = len(tokenizer) > len(tokenizer.all_special_ids)  # transformers builds an empty one from no files
    require(has_words, f"{problem}: no tokenizer.json or vocab.txt with words in it")
    require(tokenizer.is_fast, f"{model_path} has no fast tokenizer: save one with it (tokenizer.json)")
    return tokenizer


def load_encoder_config(model_path: str, revision: str | None = None, **changes: Any) -> PreTrainedConfig:
    """The config of an encoder, with some values changed; raises InputError for other architectures."""
    try:
        settings, _ = PreTrainedConfig.get_config_dict(model_path, revision=revision)
        refuse_remote_code(model_path, settings)
        kind = settings.get("model_type", "")
        require(kind != "", f"cannot read the model {model_path}: no config.json that says its model_type")
        require(kind in CONFIG_MAPPING, f"{model_path} is a model of type {kind}, which transformers does not know")
        config: PreTrainedConfig = CONFIG_MAPPING[kind].from_dict(settings | changes)
        check_encoder(model_path, config)
        return config
    except InputError:
        raise
    except Exception as error:  # files may be missing, JSON damaged, or values of a wrong type
        raise InputError(f"cannot read the model {model_path}: {first_line(error)}") from error


def check_encoder(where: str, config: PreTrainedConfig) -> None:
    """Raise InputError unless transformers has a classifier of texts on an encoder of this type."""
    kind = config.model_type
    plain_class: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    is_classifier = plain_class is not None and plain_class.main_input_name == "input_ids"
    require(is_classifier, f"{where} is a model of type {kind}: transformers has no classifier of texts for it")
    require(not config.is_encoder_decoder, f"{where} is an encoder-decoder (type {kind}): only encoders can be used")
    is_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    require(not is_causal, f"{where} is a decoder (type {kind}): only encoders can be used")
    is_decoder = getattr(config, "is_decoder", False)
    require(not is_decoder, f"{where} is a decoder (is_decoder in its config), not an encoder")


def load_weights(
    model_class: type[Model],
    model_path: str,
    config: PreTrainedConfig,
    revision: str | None = None,
    is_trained: bool = False,
) -> tuple[Model, list[str]]:
    """The model in fp32, and the names of newly initialized weights, which are logged if they belong to the encoder.

    A head of other shapes than the config's is newly initialized too, unless the model `is_trained`.
    """
    encoder = f"{model_class.base_model_prefix}."
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with without_progress_bar():
            loaded: Any = model_class.from_pretrained(
                model_path,
                config=config,
                revision=revision or "main",
                dtype=torch.float32,
                attn_implementation=choose_attention(config),
                output_loading_info=True,
                use_safetensors=True,  # other formats are pickles, which may run code
                ignore_mismatched_sizes=not is_trained,  # a head of other classes
            )
    except Exception as error:  # errors of safetensors and of shapes share no base class
        raise InputError(f"cannot load the weights of {model_path}: {first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, info = loaded
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    wrong = sorted(name for name in mismatched if name.startswith(encoder))
    require(not wrong, f"cannot load the weights of {model_path}: {', '.join(wrong)} have other shapes than its config")
    missing = sorted({*info["missing_keys"], *mismatched})
    new = [name for name in missing if name.startswith(encoder)]
    if new and not is_trained:
        logger.warning("%s has no weights for %s: these are newly initialized", model_path, ", ".join(new))
    return model, missing


def choose_attention(config: PreTrainedConfig) -> str | None:
    """The name of the attention in transformers' `AttentionInterface`; None for the default of the model's type."""
    if config.model_type != "bert":
        return None
    return FAST_DROPOUT_SDPA if is_enabled() else "sdpa"
