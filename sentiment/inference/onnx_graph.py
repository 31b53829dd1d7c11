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
from transformers.models.bert.modeling_bert import BertLayer

from sentiment.exceptions import require
from sentiment.inference.checkpoint import ONNX_LEAST_TOKENS
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


def check_packages() -> None:
    """Refuses to go on without what an export needs.

    Raises:
        InputError: a package is not installed.
    """
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        require(found is not None, f"sentiment export needs {name}: pip install 'adapt-or-finetune[onnx]'")


def prepare_for_export(model: BertSentimentClassifier) -> BertSentimentClassifier:
    """A copy that gives the same logits by another graph, see `build_graph`."""
    prepared = copy.deepcopy(model)
    prepared.set_attn_implementation("eager")
    encoder: Any = prepared.bert.encoder
    *others, last = encoder.layer
    encoder.layer = nn.ModuleList([*map(FirstTokenApartLayer, others), last])
    return prepared.eval()


def build_graph(model: BertSentimentClassifier) -> Any:
    """The classifier as an `onnx_ir.Model`, by transformers' exporter.

    Inputs `input_ids` and `attention_mask`, int64 of shape (texts, tokens), for any number of texts and 3 tokens or
    more, as many as the model has positions; output `logits`, fp32 of shape (texts, 2).

    The plainest graph is the fastest one. Speed of one thread on SST-2's validation sentences in batches of 32, MiniLM,
    ONNX Runtime 1.32 on a CPU with AVX512-VNNI, relative to fp32 as the exporter writes it by default:

        graph                            fp32   int8
        exporter's default               1.00   2.4
        with ort_fusions="cpu"           0.95   2.1   its operators hide biases from those that int8 is fused into
        attention "eager"                1.02   2.3
        last layer on the first token    1.15   2.8   `FirstTokenLayer`
        no SkipLayerNormalization        1.27   3.5   `OnnxBackend` keeps ONNX Runtime from fusing it
        feed-forward parts apart         1.24   3.2   `FirstTokenApartLayer`: slower, for int8's accuracy
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

    Measured on six fine-tuned MiniLM with 1,866 texts each, next to fp32:
    - Weights of 7 bits (`reduce_range`): CPUs without VNNI add pairs of products in 16 bits, which 8 bits overflow
      without a word, and a file may be served elsewhere than it was checked. It changes 0.7% of the labels, where 8
      bits change 0.4%; accuracy changes by -0.1 points on average, by +0.0 with 8 bits, and on none of the runs' tests
      by more than -0.4. Speed is the same.
    - [CLS] apart from other tokens (`FirstTokenApartLayer`): 1.1% of the labels change without, and one of the six was
      refused for it. The mean difference in probability is 0.007, and 0.013 without.
    - A scale for each column (`per_channel`) and not one for a matrix: without, the mean difference is more than twice
      as large, at the same speed.
    - Weights s8: u8 ran at 1.4 times the speed of fp32 where s8 ran at 2.3.
    - Products with weights alone, pooler and head among them, which changes nothing that can be measured. With the word
      embeddings in int8 too, the file has 23 MB and not 59, and answers are a little worse and no faster.
    - Weights in blocks (`MatMulNBits` of 8 bits) gave a mean difference of 0.002, and answers that do not depend on
      batch-mates, but were not much faster than fp32: 1.2 to 1.4 times.
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
