"""A trained classifier applied to new texts, without HTTP: predictor, backends, export."""
