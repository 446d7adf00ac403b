"""Builds Envoy resources from the compiled policy, one file a kind of resource or filter."""
