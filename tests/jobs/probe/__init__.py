"""A tests-only app with work that waits until a test lets it go on."""
