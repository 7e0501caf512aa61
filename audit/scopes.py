"""What a token may be used for, of what its user may do. Pure; the edges check it, duties are checked by the verbs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

READ = "read"
REGISTER = "register"
FEATURES = "features"
SERVE = "serve"
DECIDE = "decide"
LINEAGE = "lineage"

SCOPES: Mapping[str, str] = {
    READ: "look: every GET",
    REGISTER: "hand in work: versions and their files, evidence, gate runs, training requests",
    FEATURES: "feature definitions and values: plan, apply, retire, push",
    SERVE: "traffic: predict, outcomes, reading features online",
    DECIDE: "decide: models, policies, rollouts, incidents, cards, holds",
    LINEAGE: "add to the record: OpenLineage events, issued dossiers and reports",
}
"""None contains another: a pipeline that registers and waits for its gates has ``register`` and ``read``."""


def unknown(given: Iterable[str]) -> str:
    """Why these can not be the scopes of a token; empty when they can."""
    chosen = list(given)
    strange = sorted({str(each) for each in chosen} - set(SCOPES))
    if strange:
        return f"There is no scope {', '.join(strange)}. There are: {', '.join(SCOPES)}."
    return "" if chosen else f"A token needs at least one scope. There are: {', '.join(SCOPES)}."


def missing(needed: str, held: Iterable[str]) -> str:
    """Why a token with the scopes ``held`` may not do what needs ``needed``; empty when it may."""
    holds = sorted(held)
    if needed in holds:
        return ""
    if needed not in SCOPES:
        return "No token may do this: the address does not declare a scope."
    return f"This needs a token with the scope {needed}; this one has {', '.join(holds) or 'none'}."
