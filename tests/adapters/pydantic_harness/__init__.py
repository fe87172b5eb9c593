"""Steps of runs of the Pydantic AI harness."""
