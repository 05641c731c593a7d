"""CommandCenter: an implementation plan in, merged, verified, reviewed pull requests out."""
