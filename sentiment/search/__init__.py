"""Hyper-parameter search, scored on validation only: which options train best."""
