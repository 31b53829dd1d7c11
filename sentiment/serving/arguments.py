"""The options of `sentiment serve`."""

from dataclasses import dataclass, field

from sentiment.exceptions import require
from sentiment.serving.predictor import BACKENDS

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")


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
    max_batch_tokens: int = 256
    max_waiting_tokens: int = 8192
    timeout: float = 10.0

    def __post_init__(self) -> None:
        """Refuses values that no service can use."""
        require(self.backend in BACKENDS, f"--backend {self.backend}: choose one of {', '.join(BACKENDS)}")
        require(self.precision in PRECISIONS, f"--precision {self.precision}: choose one of {', '.join(PRECISIONS)}")
        require(0 <= self.port <= 65535, f"--port {self.port}: from 0 to 65535")
        require(self.timeout > 0, f"--timeout {self.timeout}: above 0 seconds")
        require(self.workers is None or self.workers >= 1, f"--workers {self.workers}: at least 1")
        for name in ("max_sentences", "max_characters", "max_body_bytes", "max_batch_tokens", "max_waiting_tokens"):
            flag = f"--{name.replace('_', '-')}"
            require(getattr(self, name) >= 1, f"{flag} {getattr(self, name)}: at least 1")
