"""Delegated rows on disk: a queue for the teacher, and a log of answers."""
