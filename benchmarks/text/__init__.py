"""A cascade of texts, measured from end to end."""
