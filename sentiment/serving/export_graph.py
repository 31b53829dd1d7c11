"""A classifier as an ONNX graph: in fp32, and with its matrix products in int8."""

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention, BertLayer

from sentiment.exceptions import require
from sentiment.model_folder import ONNX_LEAST_TOKENS
from sentiment.models.classifier import BertSentimentClassifier

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
LARGEST_FILE = 2 * 10**9  # bytes; protobuf, which ONNX files are, ends at 2 GiB


class SharedLinear(nn.Module):
    """A linear layer that a graph can hold several times with one set of weights.

    The exporter transposes the weights of `nn.Linear` for each use unless there is but one, and what is computed is
    not quantized.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().T.contiguous())
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`."""
        return states @ self.weight + self.bias


class FirstTokenApartLayer(nn.Module):
    """A layer whose feed-forward part runs on the first token by itself and on the others, with the same result.

    In MiniLM some numbers of [CLS] are 30 times as large as most; in int8, what shares a tensor with them has few
    steps left.
    """

    def __init__(self, layer: BertLayer):
        super().__init__()
        self.layer = layer
        for part in (layer.intermediate, layer.output):
            part.add_module("dense", SharedLinear(part.dense))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """States of the tokens, shape (texts, tokens, width)."""
        attended, _weights = self.layer.attention(hidden_states, attention_mask)
        parts = (attended[:, :1], attended[:, 1:])
        return torch.cat([self.layer.feed_forward_chunk(part) for part in parts], dim=1)


class FirstTokenLayer(nn.Module):
    """The last layer, computed for the first token alone: the pooler reads no other.

    The token attends to all of them as before; the feed-forward part, the larger one, runs on one token a text.
    """

    def __init__(self, layer: BertLayer, config: BertConfig):
        super().__init__()
        self.layer = layer
        # The same weights by the same names; it takes the tokens that ask apart from those that are looked at.
        self.attention = BertAttention(config, is_cross_attention=True)
        self.attention.load_state_dict(layer.attention.state_dict())

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """States of the first token from those of all, shape (texts, tokens, width) to (texts, 1, width)."""
        attended, _weights = self.attention(
            hidden_states[:, :1],
            encoder_hidden_states=hidden_states,
            encoder_attention_mask=attention_mask[:, :, :1],  # (texts, 1, 1, tokens)
        )
        states: torch.Tensor = self.layer.feed_forward_chunk(attended)
        return states


def check_packages() -> None:
    """Refuses to go on without what an export needs.

    Raises:
        InputError: a package is not installed.
    """
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        require(found is not None, f"sentiment export needs {name}: pip install 'sentiment[onnx]'")


def prepare_for_export(model: BertSentimentClassifier) -> BertSentimentClassifier:
    """A copy that gives the same logits by another graph, see `build_graph`."""
    prepared = copy.deepcopy(model)
    prepared.set_attn_implementation("eager")
    encoder: Any = prepared.bert.encoder
    *others, last = encoder.layer
    layers = [*map(FirstTokenApartLayer, others), FirstTokenLayer(last, prepared.config)]
    encoder.layer = nn.ModuleList(layers)
    return prepared.eval()


def build_graph(model: BertSentimentClassifier) -> Any:
    """The classifier as an `onnx_ir.Model`, by transformers' exporter.

    Inputs `input_ids` and `attention_mask`, int64 of shape (texts, tokens), for any number of texts and 3 tokens or
    more, as many as the model has positions; output `logits`, fp32 of shape (texts, 2).

    The plainest graph is the fastest one. Seconds of one thread on SST-2's validation sentences, MiniLM, ONNX Runtime
    1.32 on a CPU with AVX512-VNNI, relative to torch's attention as exported by default:

        attention               fp32   int8
        exporter's default      1.00   2.4 times as fast
        ort_fusions="cpu"       0.98   2.2: its fused operators hide biases and activations from int8's own fusions
        eager                   1.00   2.4
        eager, first token      1.17   2.9: the last layer runs on the first token alone
        and the backend's way   1.22   3.5: without ONNX Runtime's SkipLayerNormalization, see `OnnxBackend`
    """
    from transformers.exporters import OnnxConfig, OnnxExporter

    texts = torch.export.Dim("texts", min=1)
    tokens = torch.export.Dim("tokens", min=ONNX_LEAST_TOKENS, max=model.config.max_position_embeddings)
    names = ("input_ids", "attention_mask")
    # Any numbers but 1, which the exporter would take for a dimension that never changes.
    inputs: dict[str, Any] = {name: torch.ones(2, 5, dtype=torch.int64) for name in names}
    config = OnnxConfig(dynamic_shapes={name: {0: texts, 1: tokens} for name in names})
    with silence_exporter():
        return OnnxExporter().export(prepare_for_export(model), inputs, config).program


def quantize_graph(program: Any) -> Any:
    """The graph with weights in int8, and activations in int8 as they come (dynamic quantization).

    A tensor of activations is scaled by the smallest and largest number in it, over all texts of a batch: an answer
    depends, slightly, on the texts that it is computed with. In fp32 it does not.

    Measured on six fine-tuned MiniLM with 1,866 texts each, by the rest of the settings:
    - Weights s8: u8 ran at 1.4 times the speed of fp32, where s8 ran at 2.3.
    - A scale for each column (`per_channel`): the mean difference in probability is 0.009, and 0.021 with one for a
      whole matrix; the speed is the same.
    - Weights of 7 bits (`reduce_range`): CPUs without VNNI add up pairs of products in 16 bits, which 8 bits overflow
      without a word, and a file may be served elsewhere than it was made. It costs nothing that can be measured: mean
      difference 0.013 for 0.012, accuracy -0.17 to -0.10 points on the runs' tests and +0.05 to +0.06 on the
      validation sentences, each within its noise of 0.3, and the same speed.
    - Matrix products with weights only. Word embeddings in int8 make the file 23 MB of 59 and no faster, and answers a
      little worse (mean difference 0.0134 for 0.0129); pooler and head are too small to matter.
    - Weights in blocks (`MatMulNBits`, 8 bits) gave a mean difference of 0.002 and answers that do not depend on
      batch-mates, but 1.2 times the speed of fp32: no faster than fp32 is.
    """
    from onnxruntime.quantization import QuantType
    from transformers.exporters import ExportFormat, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    config = OnnxRuntimeDynamicConfig(
        op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )
    with silence_exporter():
        return OnnxRuntimeQuantizer(config).quantize(program, {}, ExportFormat.ONNX)


def write_graph(program: Any, path: Path) -> None:
    """Writes the graph and its weights into one file.

    Raises:
        InputError: the weights have no room in one.
    """
    import onnx_ir

    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    require(size < LARGEST_FILE, f"the model has {size / 1e9:.1f} GB of weights: an ONNX file has room for 2")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(program, path)


@contextlib.contextmanager
def silence_exporter() -> Iterator[None]:
    """Keeps what torch, transformers and ONNX Runtime tell of an export off the terminal; errors are raised still."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
