"""What people read of a run: plots, reports, model cards and terminal tables."""
