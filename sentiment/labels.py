"""The two labels."""

LABEL_NAMES = ("negative", "positive")  # label 0, label 1
