"""Models: BERT, and other encoders, with the heads that this project trains."""
