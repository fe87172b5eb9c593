"""Threads: one open root, its commits, its files, its reads."""
