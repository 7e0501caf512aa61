"""Rollouts in the admin: endpoints with the product owner's decisions, each candidate's way with every look at it."""

from rollout.admin import endpoints, rollouts

__all__ = ["endpoints", "rollouts"]
