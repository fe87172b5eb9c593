"""The LangGraph saver."""
