"""Load configs, weights and tokenizers from a folder or the Hub without running their code; save plain checkpoints."""

import logging
import os
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from transformers import AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase
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
        plain.save_pretrained(save_directory, *args, **options)


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


def load_bert_config(model_path: str, revision: str | None = None, **changes: Any) -> BertConfig:
    """The config of a BERT encoder, with some values changed; raises InputError for other architectures."""
    try:
        settings, _ = BertConfig.get_config_dict(model_path, revision=revision)
        refuse_remote_code(model_path, settings)
        kind = settings.get("model_type")
        require(kind is not None, f"cannot read the model {model_path}: no config.json that says its model_type")
        require(kind == "bert", f"{model_path} is a model of type {kind}: only BERT models can be trained here")
        require(not settings.get("is_decoder"), f"{model_path} is a decoder (is_decoder in its config), not an encoder")
        return BertConfig.from_dict(settings | changes)
    except InputError:
        raise
    except Exception as error:  # files may be missing, JSON damaged, or values of a wrong type
        raise InputError(f"cannot read the model {model_path}: {first_line(error)}") from error


def load_weights(
    model_class: type[Model], model_path: str, config: BertConfig, revision: str | None = None, head: str = ""
) -> tuple[Model, list[str]]:
    """The model in fp32, and the names of newly initialized weights, which are logged unless they start with `head`."""
    verbosity = transformers_logging.get_verbosity()
    has_progress_bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = model_class.from_pretrained(
            model_path,
            config=config,
            revision=revision or "main",
            dtype=torch.float32,
            attn_implementation=FAST_DROPOUT_SDPA if is_enabled() else "sdpa",
            output_loading_info=True,
            use_safetensors=True,  # other formats are pickles, which may run code
            ignore_mismatched_sizes=bool(head),  # a head of other classes
        )
    except Exception as error:  # errors of safetensors and of shapes share no base class
        raise InputError(f"cannot load the weights of {model_path}: {first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if has_progress_bar:
            transformers_logging.enable_progress_bar()
    model, info = loaded
    mismatched = {name for name, *_ in info["mismatched_keys"]}
    wrong = sorted(name for name in mismatched if not name.startswith(head))
    require(not wrong, f"cannot load the weights of {model_path}: {', '.join(wrong)} have other shapes than its config")
    missing = sorted({*info["missing_keys"], *mismatched})
    if new := [name for name in missing if not name.startswith(head)]:
        logger.warning("%s has no weights for %s: these are newly initialized", model_path, ", ".join(new))
    return model, missing
