"""Whether anything got past the gates, read from the tables alone.

Independent on purpose: plain SQL and plain Python, none of Gatehouse's own queries, guards or policy code. What it
saw in an earlier step it remembers: rows that are written once, and under which policy a rollout entered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

LET_IN = frozenset({"shadow", "canary", "paused", "promoted"})
DECIDERS = {"product": "product_id", "platform": "platform_id"}
Row = dict[str, Any]
Table = dict[int, Row]

_COLUMNS = {
    "registry_registeredmodel": ("data_science_id", "product_id", "platform_id"),
    "registry_modelversion": ("registered_model_id",),
    "gates_policy": ("registered_model_id", "number", "created_by_id", "document"),
    "gates_policydecision": ("policy_id", "outcome", "duty", "decided_by_id"),
    "gates_gaterun": ("registered_model_id", "version_id", "policy_id", "state"),
    "gates_checkresult": ("gate_run_id", "check_id", "kind", "blocking", "verdict"),
    "rollout_endpoint": ("registered_model_id", "enabled", "rollouts_paused"),
    "rollout_fallback": ("endpoint_id", "version_id", "retired_at"),
    "rollout_decision": ("endpoint_id", "registered_model_id", "decided_by_id", "kind", "fallback_id"),
    "rollout_rollout": ("endpoint_id", "registered_model_id", "version_id", "gate_run_id", "state"),
    "rollout_route": ("endpoint_id", "champion_id", "candidate_id", "rollout_id", "fallback_id"),
    "registry_alias": ("registered_model_id", "name", "version_id"),
}
WRITTEN_ONCE = (
    "registry_modelversion", "gates_policy", "gates_policydecision", "gates_checkresult", "rollout_decision",
)  # fmt: skip


def read_tables() -> dict[str, Table]:
    """What the database holds now, by table and id."""
    tables: dict[str, Table] = {}
    with connection.cursor() as cursor:
        for table, columns in _COLUMNS.items():
            cursor.execute(f'SELECT id, {", ".join(columns)} FROM "{table}"')
            tables[table] = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in cursor.fetchall()}
    return tables


def read_memberships() -> frozenset[tuple[int, int]]:
    """(user, group) of everybody."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT user_id, group_id FROM auth_user_groups")
        return frozenset((user, group) for user, group in cursor.fetchall())


@dataclass
class Oracle:
    """Looks after every step. ``members`` are those of the start, because nobody changes groups on these walks."""

    members: frozenset[tuple[int, int]]
    before: dict[str, Table] = field(default_factory=dict)

    def holes(self) -> list[str]:
        """What is there that must not be; the state is remembered for the next look."""
        now = read_tables()
        found = [*self._rewritten(now), *self._confirmed(now), *_unproven(now), *self._entered(now), *_served(now)]
        found += [*self._fell_back(now), *self._decided(now)]
        self.before = now
        return found

    def _rewritten(self, now: dict[str, Table]) -> list[str]:
        """Rows that are written once stay as they were, and an ended run stays ended."""
        found = [
            f"{table} {key} was {row}, is {now[table].get(key)}"
            for table in WRITTEN_ONCE
            for key, row in self.before.get(table, {}).items()
            if now[table].get(key) != row
        ]
        for key, run in self.before.get("gates_gaterun", {}).items():
            after = now["gates_gaterun"].get(key)
            same = after is not None and all(
                run[name] == after[name] for name in ("registered_model_id", "version_id", "policy_id")
            )
            ended = run["state"] not in ("open", "running")
            if after is None or not same or (ended and after["state"] != run["state"]):
                found.append(f"gate run {key} was {run}, is {after}")
            if ended:
                late = {
                    row["check_id"]
                    for result, row in now["gates_checkresult"].items()
                    if row["gate_run_id"] == key and result not in self.before["gates_checkresult"]
                }
                found += [f"gate run {key} had ended and got results: {late}"] if late else []
        return found

    def _confirmed(self, now: dict[str, Table]) -> list[str]:
        """Each policy that took force was confirmed by a second person of another duty and group."""
        found = []
        for key, decision in now["gates_policydecision"].items():
            policy = now["gates_policy"].get(decision["policy_id"])
            if decision["outcome"] != "confirmed":
                continue
            if policy is None or not self._by_two(
                policy, decision, now["registry_registeredmodel"][policy["registered_model_id"]]
            ):
                found.append(f"decision {key} put {policy} in force: {decision}")
        return found

    def _entered(self, now: dict[str, Table]) -> list[str]:
        """Each rollout that is let in has a passed run of its version, under the policy in force when it entered: the
        shadow, or the canary; a canary that began so may be promoted under any."""
        found = []
        for key, rollout in now["rollout_rollout"].items():
            if rollout["state"] not in LET_IN:
                continue
            run = now["gates_gaterun"].get(rollout["gate_run_id"])
            if run is None or run["state"] != "passed" or run["version_id"] != rollout["version_id"]:
                found.append(f"rollout {key} is {rollout['state']} on the gate run {run}")
                continue
            model = now["registry_modelversion"][run["version_id"]]["registered_model_id"]
            earlier = self.before.get("rollout_rollout", {}).get(key)
            entered = _has_entered(earlier["state"] if earlier else None, rollout["state"])
            in_force = self._in_force(now, model)
            if entered and now["rollout_endpoint"][rollout["endpoint_id"]]["registered_model_id"] != model:
                found.append(f"rollout {key} of model {model} entered the endpoint of another")
            step_up = earlier is not None and rollout["state"] == "promoted" != earlier["state"]
            if (
                (entered or step_up)
                and rollout["state"] != "paused"
                and now["rollout_endpoint"][rollout["endpoint_id"]]["rollouts_paused"]
            ):
                found.append(f"rollout {key} is {rollout['state']}: it got on though the product owner paused rollouts")
            if entered and run["policy_id"] != in_force:
                found.append(f"rollout {key} entered under policy {run['policy_id']}; {in_force} is in force")
        return found

    def _fell_back(self, now: dict[str, Table]) -> list[str]:
        """What a kill switch was pulled to is of its endpoint, and a version of its model that was promoted. It may go
        on answering whatever becomes of the endpoint since."""
        rollouts, before = now["rollout_rollout"], self.before.get("rollout_route", {})
        found = []
        for key, route in now["rollout_route"].items():
            earlier = before.get(key)
            if route["fallback_id"] is None or (earlier and earlier["fallback_id"] == route["fallback_id"]):
                continue
            fallback = now["rollout_fallback"].get(route["fallback_id"])
            endpoint = now["rollout_endpoint"][route["endpoint_id"]]
            if (
                fallback is None
                or fallback["endpoint_id"] != route["endpoint_id"]
                or fallback["retired_at"] is not None
            ):
                found.append(f"route {key} falls back to {fallback}")
            elif fallback["version_id"] is not None and not any(
                each["version_id"] == fallback["version_id"]
                and each["state"] == "promoted"
                and each["registered_model_id"] == endpoint["registered_model_id"]
                for each in rollouts.values()
            ):
                found.append(
                    f"route {key} falls back to version {fallback['version_id']}, never promoted for its model"
                )
            if endpoint["enabled"]:
                found.append(f"route {key} falls back, and its kill switch is not pulled")
        for key, row in self.before.get("rollout_fallback", {}).items():
            after = now["rollout_fallback"].get(key)
            if after is None or any(row[name] != after[name] for name in ("endpoint_id", "version_id")):
                found.append(f"fallback {key} was {row}, is {after}")
        return found

    def _decided(self, now: dict[str, Table]) -> list[str]:
        """Each decision is by a member of the product group of the model that it names."""
        return [
            f"decision {key} is by {decision['decided_by_id']}: {decision}"
            for key, decision in now["rollout_decision"].items()
            if (
                decision["decided_by_id"],
                now["registry_registeredmodel"][decision["registered_model_id"]]["product_id"],
            )
            not in self.members
        ]

    def _in_force(self, now: dict[str, Table], model: int) -> int | None:
        """Of the model's policies that a second person of another duty confirmed, the one with the highest number."""
        confirmed = [
            (policy["number"], decision["policy_id"])
            for decision in now["gates_policydecision"].values()
            if decision["outcome"] == "confirmed"
            and (policy := now["gates_policy"].get(decision["policy_id"])) is not None
            and policy["registered_model_id"] == model
            and self._by_two(policy, decision, now["registry_registeredmodel"][model])
        ]
        return max(confirmed)[1] if confirmed else None

    def _by_two(self, policy: Row, decision: Row, model: Row) -> bool:
        proposer, decider = policy["created_by_id"], decision["decided_by_id"]
        group = DECIDERS.get(decision["duty"])
        return (
            proposer is not None
            and proposer != decider
            and (proposer, model["data_science_id"]) in self.members
            and group is not None
            and (decider, model[group]) in self.members
            and model[group] != model["data_science_id"]
        )


def _has_entered(was: str | None, state: str) -> bool:
    """Whether this is a step for which a version needs a pass that is not void."""
    if was is None or was not in LET_IN:
        return True
    if state == "promoted":
        return was not in ("canary", "promoted")
    return state in ("shadow", "canary") and state != was


def _unproven(now: dict[str, Table]) -> list[str]:
    """Each passed run has all blocking checks of its policy's document, passed, and none besides that did not."""
    results: dict[int, list[Row]] = {}
    for result in now["gates_checkresult"].values():
        results.setdefault(result["gate_run_id"], []).append(result)
    found = []
    for key, run in now["gates_gaterun"].items():
        there = results.get(key, [])
        blocking = _blocking(now["gates_policy"][run["policy_id"]]["document"])
        for each in there:
            if each["blocking"] != ((each["check_id"], each["kind"]) in blocking):
                found.append(f"gate run {key} has a result that its policy does not ask for: {each}")
        if run["state"] != "passed":
            continue
        passed = {
            (each["check_id"], each["kind"]) for each in there if each["blocking"] and each["verdict"] == "passed"
        }
        lacking = blocking - passed
        if lacking or any(each["blocking"] and each["verdict"] != "passed" for each in there):
            found.append(f"gate run {key} passed without {sorted(lacking)}; it has {there}")
        if now["registry_modelversion"][run["version_id"]]["registered_model_id"] != run["registered_model_id"]:
            found.append(f"gate run {key} passed by the policy of another model")
    return found


def _blocking(document: Any) -> set[tuple[str, str]]:
    """(id, kind) of the blocking checks: all that are not said to be report only."""
    read = json.loads(document) if isinstance(document, str) else document
    checks = read["checks"] if isinstance(read, dict) else ()
    return {(check["id"], check["kind"]) for check in checks if check.get("blocking") is not False}


def _served(now: dict[str, Table]) -> list[str]:
    """Candidates of routes have a rollout that is let in; champions one that was promoted, of their own model."""
    rollouts = now["rollout_rollout"]
    promoted = {each["version_id"] for each in rollouts.values() if each["state"] == "promoted"}
    of_model = {key: row["registered_model_id"] for key, row in now["registry_modelversion"].items()}
    found = []
    for key, route in now["rollout_route"].items():
        rollout = rollouts.get(route["rollout_id"])
        if route["champion_id"] is not None and route["champion_id"] not in promoted:
            found.append(f"route {key} serves version {route['champion_id']}, which was never promoted")
        elif route["champion_id"] is not None:
            endpoint = now["rollout_endpoint"][route["endpoint_id"]]
            if endpoint["registered_model_id"] != of_model[route["champion_id"]]:
                found.append(f"route {key} serves version {route['champion_id']} of another model than its endpoint's")
        if route["candidate_id"] is None:
            continue
        of_this = rollout is not None and all(
            rollout[mine] == route[its] for mine, its in (("version_id", "candidate_id"), ("endpoint_id",) * 2)
        )
        if rollout is None or not of_this or rollout["state"] == "pending":
            found.append(f"route {key} has candidate {route['candidate_id']} of the rollout {rollout}")
    for key, alias in now["registry_alias"].items():
        version = alias["version_id"]
        if alias["name"] != "champion":
            continue
        if version not in promoted or of_model[version] != alias["registered_model_id"]:
            found.append(f"alias {key} makes version {version} champion of model {alias['registered_model_id']}")
    return found
