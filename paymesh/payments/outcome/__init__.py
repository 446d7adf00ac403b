"""What a provider's answer says about money, and whose fault it is where none moved: one module a protocol."""

from paymesh.payments.outcome.read import READ, media_types, read_outcome, read_status
from paymesh.payments.outcome.reading import Fault, Outcome, Reading

__all__ = ["READ", "Fault", "Outcome", "Reading", "media_types", "read_outcome", "read_status"]
