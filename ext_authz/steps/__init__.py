"""The steps of a check, one module each. Their order: `ext_authz/pipeline.py`."""
