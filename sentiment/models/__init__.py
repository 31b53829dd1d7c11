"""Models: BERT with the heads that this project trains."""
