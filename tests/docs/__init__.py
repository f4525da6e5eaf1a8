"""Pages that are generated from what they describe."""
