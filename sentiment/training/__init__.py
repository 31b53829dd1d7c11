"""Training: optimizer, precision, callbacks and checkpoints given to the Trainer."""
