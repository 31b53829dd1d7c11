"""Fine-tune BERT end to end, or adapt it to your domain first: train both, and get an honest verdict."""

__version__ = "0.1.0"
