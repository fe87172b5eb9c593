"""Pure: records, names and journal frames as bytes, and back."""
