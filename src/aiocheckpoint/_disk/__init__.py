"""Synchronous: the only code that touches the operating system."""
