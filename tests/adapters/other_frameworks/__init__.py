"""Recipes for frameworks that need no adapter."""
