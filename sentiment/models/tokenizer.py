"""The tokenizer that belongs to a model."""

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from sentiment.exceptions import InputError, first_line
from sentiment.model_folder import refuse_code


def load_tokenizer(model_path: str, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """The fast tokenizer in a folder or of a Hub id.

    Args:
        model_path: a folder or a Hub id.
        max_length: tokens that the tokenizer will say its model takes; what its files say where left out.

    Raises:
        InputError: its files are missing or damaged, or name code.
    """
    options = {} if max_length is None else {"model_max_length": max_length}
    try:
        refuse_code(model_path, get_tokenizer_config(model_path))
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
