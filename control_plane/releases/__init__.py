"""Carrying releases out: what was decided, kept on disk, and the weights made so."""
