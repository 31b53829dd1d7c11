"""A trained classifier put to use on new texts."""
