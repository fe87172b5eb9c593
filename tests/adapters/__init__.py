"""Adapters: the frameworks' own tests, and what must hold beyond them; each in its environment."""
