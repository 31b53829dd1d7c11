"""The lab's server: a Flask app that pads each request to 128 tokens and runs it alone, in fp32.

    python tests/benchmarks/serving_lab.py MODEL

What `serving_load.py` measures the service against. It prints its port.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from flask import Flask, jsonify, request
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from werkzeug.serving import WSGIRequestHandler, make_server

MAX_LENGTH = 128


def build_app(folder: Path) -> Flask:
    """The app, with its model loaded."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    app = Flask("lab")

    @app.post("/query")
    @torch.no_grad()
    def query() -> Any:
        encoded = tokenizer(
            request.get_json()["sentences"],
            padding="max_length",
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        probabilities = model(**encoded).logits.softmax(dim=-1)
        return jsonify(results=probabilities.argmax(dim=-1).tolist(), scores=probabilities.max(dim=-1).values.tolist())

    return app


class KeepAliveHandler(WSGIRequestHandler):
    """Lets clients keep their connections, as those of the service do, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the terminal would be measured too."""


def main() -> None:
    folder = Path(sys.argv[1])
    folder = folder if (folder / "config.json").is_file() else folder / "model"
    server = make_server("127.0.0.1", 0, build_app(folder), threaded=True, request_handler=KeepAliveHandler)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
