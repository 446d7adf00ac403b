"""paymesh: an Envoy made into a payment gateway. The packages and their order: docs/architecture.md."""
