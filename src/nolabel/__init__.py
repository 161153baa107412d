"""nolabel: self-supervised and semi-supervised learning."""
