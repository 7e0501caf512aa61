"""What runs inside Feast's environment: ``python -m benchmarks.feast_peer.inside``."""
