"""Runs on disk: their folder, their record, what differs between two, where a base model comes from."""
