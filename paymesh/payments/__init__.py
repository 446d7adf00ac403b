"""The payment domain: policy, credentials, limits, fields, channels. Knows no transport (no grpc, no envoy, no google)."""
