"""Metrics, intervals and tests of classifiers, as numbers; sentences and plots are in `reporting`."""
