"""Limits: what a request takes, where it is counted, and what happens without the store."""
