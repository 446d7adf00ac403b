"""The demo: merchants that really sign, scenarios, and a table of what came of them."""
