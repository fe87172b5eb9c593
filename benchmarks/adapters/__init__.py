"""Adapters beside their frameworks' own stores, each in its environment."""
