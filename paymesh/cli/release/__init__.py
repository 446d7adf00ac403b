"""Owns `paymesh release`: a service's traffic moved from one version to the next, seen and steered from a terminal."""
