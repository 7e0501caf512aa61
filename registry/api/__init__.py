"""The registry over HTTP, a module per thing that is asked for."""
