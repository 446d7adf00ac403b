"""Payments that were taken elsewhere, as a merchant tells of them: cash, a terminal, a transfer."""
