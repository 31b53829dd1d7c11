"""Options of `sentiment serve`."""

from dataclasses import dataclass, field

from sentiment.environment import PRECISIONS
from sentiment.exceptions import require
from sentiment.inference.backends import BACKENDS
from sentiment.inference.checkpoint import ONNX_FILES

COUNTS = ("max_sentences", "max_characters", "max_body_bytes", "workers", "max_batch_tokens", "max_waiting_tokens")


@dataclass(frozen=True)
class ServingArguments:
    """Models, address and limits of a service; `sentiment serve --help` describes each option."""

    model: str
    compare_with: str | None = None
    backend: str = "torch"
    precision: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: str | None = None
    cors_origins: list[str] = field(default_factory=list)
    max_sentences: int = 128
    max_characters: int = 10_000
    max_body_bytes: int = 1 << 20
    workers: int | None = None
    max_batch_tokens: int | None = None
    max_waiting_tokens: int = 8192
    timeout: float = 10.0
    abstain_below: float = 0.0
    access_log: bool = False
    examples: bool = False

    def __post_init__(self) -> None:
        """Raise InputError for values that cannot be served with."""
        precisions = ("auto", *ONNX_FILES) if self.backend == "onnx" else PRECISIONS
        choices = ", ".join(precisions)
        require(self.backend in BACKENDS, f"--backend {self.backend}: choose one of {', '.join(BACKENDS)}")
        require(self.precision in precisions, f"--precision {self.precision}: with {self.backend}, one of {choices}")
        require(0 <= self.port <= 65535, f"--port {self.port}: from 0 to 65535")
        require(0 <= self.abstain_below <= 1, f"--abstain-below {self.abstain_below}: a probability")
        require(self.timeout > 0, f"--timeout {self.timeout}: above 0 seconds")
        for name in COUNTS:
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')} {value}: at least 1")
