"""Reads bodies, queries and what is embedded in them, and edits named places without touching another byte."""
