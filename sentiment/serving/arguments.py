"""The options of `sentiment serve`."""

from dataclasses import dataclass, field

from sentiment.exceptions import require
from sentiment.inference.predictor import BACKENDS

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
AT_LEAST_ONE = (
    *("max_sentences", "max_characters", "max_body_bytes"),
    *("workers", "max_batch_tokens", "max_waiting_tokens"),
)


@dataclass(frozen=True)
class ServingArguments:
    """Which models to serve, where, and within which limits."""

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

    def __post_init__(self) -> None:
        """Refuses values that no service can use."""
        require(self.backend in BACKENDS, f"--backend {self.backend}: choose one of {', '.join(BACKENDS)}")
        require(self.precision in PRECISIONS, f"--precision {self.precision}: choose one of {', '.join(PRECISIONS)}")
        require(0 <= self.port <= 65535, f"--port {self.port}: from 0 to 65535")
        require(self.timeout > 0, f"--timeout {self.timeout}: above 0 seconds")
        for name in AT_LEAST_ONE:
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')} {value}: at least 1")
