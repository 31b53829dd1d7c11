"""Augmentation of training texts: one module a kind, and one entry in the table of kinds."""
