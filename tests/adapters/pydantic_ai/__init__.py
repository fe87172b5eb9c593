"""Conversations of Pydantic AI."""
