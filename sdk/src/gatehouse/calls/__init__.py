"""What a client asks of the portal, by group; ``gatehouse.Client`` has them all."""
