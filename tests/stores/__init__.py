"""Stores on servers."""
