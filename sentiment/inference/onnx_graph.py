"""A classifier as an ONNX graph, in fp32 and in int8."""

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
from sentiment.inference.checkpoint import ONNX_MIN_TOKENS
from sentiment.models.classifier import BertSentimentClassifier

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
MAX_FILE_BYTES = 2 * 10**9  # protobuf, the format of ONNX files, ends at 2 GiB


class SharedLinear(nn.Module):
    """A linear layer that is quantized even if it is called twice; of `nn.Linear`, the transposed weights are not."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().T.contiguous())
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The same as of `nn.Linear`."""
        return states @ self.weight + self.bias


class SplitFeedForwardLayer(nn.Module):
    """A `BertLayer` whose feed-forward network runs on [CLS] and on the other tokens separately, with the same result.

    In MiniLM some activations of [CLS] are 30 times as large as most: in int8 they leave few levels to other tokens.
    """

    def __init__(self, layer: BertLayer):
        super().__init__()
        self.layer = layer
        for part in (layer.intermediate, layer.output):
            part.add_module("dense", SharedLinear(part.dense))

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Hidden states, shape (texts, tokens, hidden size)."""
        attended, _weights = self.layer.attention(hidden_states, attention_mask)
        parts = (attended[:, :1], attended[:, 1:])
        return torch.cat([self.layer.feed_forward_chunk(part) for part in parts], dim=1)


def check_packages() -> None:
    """Raise InputError if a package that the export needs is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    require(not missing, f"sentiment export needs {', '.join(missing)}: pip install 'adapt-or-finetune[onnx]'")


def build_graph(model: BertSentimentClassifier) -> Any:
    """The classifier as an `onnx_ir.Model`.

    Inputs `input_ids` and `attention_mask`, int64, shape (texts, tokens), for any number of texts and from 3 tokens to
    the model's maximum; output `logits`, fp32, shape (texts, 2).

    Speed relative to the exporter's default in fp32: one thread, SST-2 validation in batches of 32, MiniLM, ONNX
    Runtime 1.32 on a CPU with AVX512-VNNI:

        graph                                fp32   int8
        exporter's default                   1.00   2.4
        with ort_fusions="cpu"               0.95   2.1   fused operators hide biases, which int8 could absorb
        attention "eager"                    1.02   2.3
        last layer on the first token only   1.15   2.8   `FirstTokenLayer`
        no SkipLayerNormalization            1.27   3.5   `backends.SLOW_FUSIONS`
        split feed-forward                   1.24   3.2   `SplitFeedForwardLayer`: slower, for int8's accuracy
    """
    from transformers.exporters import OnnxConfig, OnnxExporter

    texts = torch.export.Dim("texts", min=1)
    tokens = torch.export.Dim("tokens", min=ONNX_MIN_TOKENS, max=model.config.max_position_embeddings)
    names = ("input_ids", "attention_mask")
    # No size of 1: the exporter would take it for a constant.
    inputs: dict[str, Any] = {name: torch.ones(2, 5, dtype=torch.int64) for name in names}
    config = OnnxConfig(dynamic_shapes={name: {0: texts, 1: tokens} for name in names})
    model = copy.deepcopy(model).eval()
    model.set_attn_implementation("eager")
    encoder: Any = model.bert.encoder
    encoder.layer = nn.ModuleList([*map(SplitFeedForwardLayer, encoder.layer[:-1]), encoder.layer[-1]])
    with silence_exporter():
        return OnnxExporter().export(model, inputs, config).program


def quantize_graph(program: Any) -> Any:
    """The graph with weights and activations of its matrix products in int8 (dynamic quantization).

    An answer depends slightly on its batch, since activations are scaled by the minimum and maximum of all its texts.
    Measured on six fine-tuned MiniLM with 1,866 texts each, against fp32:

    - 7-bit weights (`reduce_range`): 8 bits overflow silently on CPUs without VNNI. 0.7% of the labels change (8 bits:
      0.4%), accuracy by -0.1 points on average (8 bits: 0.0) and by -0.4 at most, speed not at all.
    - `SplitFeedForwardLayer`: mean difference in probability 0.007; without it 0.013, and one of the six is refused.
    - One scale per matrix in place of `per_channel`: twice the mean difference at the same speed.
    - Signed weights: 2.3 times the speed of fp32, unsigned ones 1.4.
    - Word embeddings in int8 too: 23 MB in place of 59, slightly worse answers, no speed.
    - `MatMulNBits` with 8 bits: mean difference 0.002, but only 1.2 to 1.4 times the speed of fp32.
    """
    from onnxruntime.quantization import QuantType
    from transformers.exporters import ExportFormat, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    config = OnnxRuntimeDynamicConfig(
        op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )
    with silence_exporter():
        return OnnxRuntimeQuantizer(config).quantize(program, {}, ExportFormat.ONNX)


def write_graph(program: Any, path: Path) -> None:
    """Write the graph and its weights into one file; raises InputError if the weights are too large for one."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in program.graph.initializers.values())
    require(size < MAX_FILE_BYTES, f"the model has {size / 1e9:.1f} GB of weights: an ONNX file can hold 2")
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx_ir.save(program, path)


@contextlib.contextmanager
def silence_exporter() -> Iterator[None]:
    """Silence logs, warnings and prints of torch, transformers and ONNX Runtime; errors are still raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
