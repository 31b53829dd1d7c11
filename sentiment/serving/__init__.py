"""The HTTP service: `sentiment serve`."""
