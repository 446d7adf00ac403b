"""ext_authz: decides every request before Envoy routes it."""
