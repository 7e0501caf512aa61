"""Policies: what a model's versions must prove. Proposed by data science, in force when a second person confirms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.answers import read
from gatehouse.calls.addresses import Calls, below_model, named
from gatehouse.policies import Policy, PolicyDifference, PolicyDryRun
from gatehouse.showing import Rows

OUTCOMES = ("confirm", "decline", "withdraw")


class PolicyCalls(Calls):
    def policies(self, model: str) -> list[Policy]:
        """Newest first, without their documents."""
        return Rows(read(Policy, row) for row in self._wire.pages(f"{below_model(model)}policies/"))

    def policy(self, model: str, number: int | None = None) -> Policy:
        """With its document; without a number, the one in force. Raises NotFound before there is one."""
        return read(Policy, self._wire.get(_address(model, number)))

    def policy_yaml(self, model: str, number: int | None = None) -> str:
        """As text to be edited; above it, as remarks, who decided what."""
        return self._wire.get_bytes(_address(model, number), form="yaml").decode()

    def policy_template(self, tier: str, *, task: str | None = None) -> str:
        """Where a tier's policies start, as YAML; what only the owners can say is empty in it."""
        return self._wire.get_bytes(f"policy-templates/{named(tier)}/", form="yaml", task=task).decode()

    def propose_policy(
        self,
        model: str,
        *,
        note: str,
        yaml: str | None = None,
        document: Mapping[str, Any] | None = None,
        template: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Policy:
        """Propose a policy in one of three forms; it waits for a second person. Raises InvalidInput, whose ``errors``
        name each setting (of YAML, with line and column), and Conflict while another proposal waits."""
        body = {**_sent(yaml, document, template, overrides), "note": note}
        return read(Policy, self._wire.post(f"{below_model(model)}policies/", body))

    def policy_difference(self, model: str, number: int, *, against: int | None = None) -> PolicyDifference:
        """What a policy asks otherwise than another; without ``against``, than the one in force."""
        address = f"{below_model(model)}policies/{number}/diff/"
        return read(PolicyDifference, self._wire.get(address, against=against))

    def dry_run_policy(
        self,
        model: str,
        *,
        yaml: str | None = None,
        document: Mapping[str, Any] | None = None,
        template: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        last: int = 20,
    ) -> PolicyDryRun:
        """What a policy that need not be proposed would have made of the model's last versions. Nothing is recorded."""
        body = {**_sent(yaml, document, template, overrides), "last": last}
        address = f"{below_model(model)}policies/dry-run/"
        return read(PolicyDryRun, self._wire.post(address, body, repeat=True, patience=60.0))

    def decide_policy(self, model: str, number: int, outcome: str, *, reason: str) -> Policy:
        """``confirm`` or ``decline`` somebody else's proposal, with the product or platform duty; ``withdraw`` it."""
        body = {"outcome": outcome, "reason": reason}
        return read(Policy, self._wire.post(f"{below_model(model)}policies/{number}/decision/", body))


def _address(model: str, number: int | None) -> str:
    return f"{below_model(model)}policies/{'in-force' if number is None else number}/"


def _sent(
    yaml: str | None, document: Mapping[str, Any] | None, template: str | None, overrides: Mapping[str, Any] | None
) -> dict[str, Any]:
    forms = {"yaml": yaml, "document": document, "template": template, "overrides": overrides}
    return {name: value for name, value in forms.items() if value is not None}
