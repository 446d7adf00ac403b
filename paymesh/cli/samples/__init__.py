"""Sample payment services for the local stack: trade with an order state, and simulators of five channels.

They stand where a user's own services stand. Nothing else in paymesh imports them.
"""
