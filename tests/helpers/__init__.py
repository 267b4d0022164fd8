"""Helpers that test files of several folders share."""
