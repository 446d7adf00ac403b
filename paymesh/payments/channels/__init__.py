"""Channels: which of them takes a payment, and how well each does."""
