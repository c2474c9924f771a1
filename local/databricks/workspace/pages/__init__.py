"""Shows runs to a person."""
