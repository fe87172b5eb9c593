"""Sessions of Google ADK."""
