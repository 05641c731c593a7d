"""What a workspace may reach: the model gateway. Credentials stay on this side of it."""
