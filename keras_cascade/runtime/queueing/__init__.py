"""Delegated rows on disk: those that wait, and those that were answered."""
