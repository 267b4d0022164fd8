"""End-to-end benchmark of a text cascade."""
