"""What people read of runs: figures, reports, model cards and terminal tables."""
