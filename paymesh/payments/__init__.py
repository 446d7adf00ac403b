"""The payment domain: policy, credentials, limits, fields, channels. Knows no transport."""
