"""Owns state that several ext_authz workers share in a Redis or Valkey: the one client, and the stores on it."""
