"""Adapters: a generic order as a provider's own protocol has it, and the provider's answer as a generic one. Pure."""
