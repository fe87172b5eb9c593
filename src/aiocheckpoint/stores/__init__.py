"""Stores on servers; each needs an extra of its own."""
