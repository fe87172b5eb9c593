"""The LangGraph saver; needs the packages of the group `test`."""

import pytest

pytest.importorskip("langgraph.checkpoint.base", reason="needs the extra langgraph")
