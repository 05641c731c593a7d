"""The demo: a sample repository, a bundled plan and a scripted agent, through the real pipeline."""
