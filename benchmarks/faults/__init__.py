"""Fault injection: the edge runtime with a failing teacher."""
