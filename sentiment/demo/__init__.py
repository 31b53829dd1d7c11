"""The embedded model and reviews, for a machine without the Hugging Face Hub."""
