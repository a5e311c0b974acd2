"""Pictures of what the verbs found: plain arrays and names in, files out."""
