"""Compiled kernels: no Python objects, no interpreter lock."""
