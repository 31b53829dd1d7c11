"""Arms x seeds x label budgets: which strategy pays at how many labels."""
