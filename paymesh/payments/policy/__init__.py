"""The policy: documents (what an operator writes) and compiled objects (what a request is decided by)."""
