"""Sessions and storages of Strands Agents."""
