"""Checkpoints of Microsoft Agent Framework."""
