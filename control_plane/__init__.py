"""The control plane: turns the policy into what Envoy runs."""
