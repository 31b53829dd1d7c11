"""Whole jobs: fine-tuning, adaptation, comparison and verification of runs."""
