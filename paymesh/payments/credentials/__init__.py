"""How a caller proves who it is: one module a scheme, one line each in `schemes.py`."""
