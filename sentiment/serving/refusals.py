"""Requests that are answered with an error."""

import json

JSON = "application/json"
# nginx's word for a request whose client did not wait for the answer: it is counted, and read by nobody but a client
# that has closed its own half of the connection, which cannot be told from one that has gone.
CLIENT_GONE = 499


class RefusedError(Exception):
    """An error to answer with: its status, what is wrong in one line, and headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}

    @property
    def body(self) -> bytes:
        """What is sent."""
        return json.dumps({"error": str(self)}).encode()


class BusyError(RefusedError):
    """429: too much waits already."""

    def __init__(self) -> None:
        super().__init__(429, "too many texts are waiting: try again", {"retry-after": "1"})
