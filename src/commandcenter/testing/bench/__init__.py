"""The bench: what the pipeline costs, measured through the real service and printed."""
