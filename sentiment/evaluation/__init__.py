"""How good a classifier is, where it errs, and the report that says so."""
