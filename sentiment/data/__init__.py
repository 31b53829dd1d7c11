"""Reviews: where they come from, how they are cleaned, split, audited and tokenized."""
