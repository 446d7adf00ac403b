"""The configuration centre: policies that are applied, compared, and taken back by version."""
