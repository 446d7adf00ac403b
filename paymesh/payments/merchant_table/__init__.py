"""Merchants in an SQL table, looked up on demand behind a bounded cache."""
