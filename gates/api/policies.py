"""Policies over HTTP: what a model's versions must prove; proposed, tried on the past, decided on by a second."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.urls import reverse
from django_filters import rest_framework as filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import exceptions, renderers, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock, scopes
from audit.errors import InvalidInput, NotFound
from audit.rest import ApiView, Body, MappingField, PlainJSONField
from gates import actions
from gates.dry_run import LAST, MOST, dry_run
from gates.models import Policy, PolicyDecision, PolicyOutcome
from gates.policy import PolicyDocument, PolicyError, parse, templates
from gates.policy.difference import Change
from gates.policy.text import LARGEST, PolicyTextError, load
from registry.models import RegisteredModel, Task
from registry.rest import ListingOfModel, OfModel

JSON, YAML = "json", "yaml"
MEDIA_TYPE = "application/yaml"
VERBS = {
    "confirm": actions.confirm_policy,
    "decline": actions.decline_policy,
    "withdraw": actions.withdraw_policy,
}
STANDINGS = ("in force", "waiting", "outdated", "replaced", "declined", "withdrawn")
DIRECTIONS = ("stricter", "looser", "neither")

# ---------------------------------------------------------------------- what is answered


class SettingChangeRow(serializers.Serializer[Any]):
    """A setting that is asked otherwise; ``check`` is empty for the document itself."""

    check = serializers.CharField(allow_blank=True)
    setting = serializers.CharField(help_text="Of a check that came or went as a whole: check.")
    before = PlainJSONField(allow_null=True)
    after = PlainJSONField(allow_null=True)
    direction = serializers.ChoiceField(choices=DIRECTIONS, help_text="looser: a version may pass that did not before.")


class DecisionRow(serializers.ModelSerializer[PolicyDecision]):
    outcome = serializers.ChoiceField(choices=PolicyOutcome.choices, read_only=True)
    decided_by = serializers.CharField(read_only=True)

    class Meta:
        model = PolicyDecision
        fields: tuple[str, ...] = ("outcome", "duty", "reason", "decided_by", "decided_at")
        read_only_fields = fields


class LoosenedAfter(serializers.Serializer[Any]):
    """The run that did not pass, before less was asked."""

    gate_run = serializers.IntegerField(source="pk")
    version = serializers.IntegerField(source="version.number")
    state = serializers.CharField()


class PolicyRow(serializers.ModelSerializer[Policy]):
    model = serializers.CharField(source="registered_model", read_only=True)
    standing = serializers.SerializerMethodField()
    template = serializers.SerializerMethodField(help_text="What it was made from, name@revision; empty: nothing.")
    loosened = SettingChangeRow(many=True, read_only=True, help_text="What it asks less of than the policy before it.")
    loosened_after = LoosenedAfter(read_only=True, allow_null=True)
    created_by = serializers.CharField(read_only=True, allow_null=True, help_text="Who proposed it.")
    decision = serializers.SerializerMethodField(help_text="By the second person; null while it waits.")

    class Meta:
        model = Policy
        fields: tuple[str, ...] = (
            "number", "model", "standing", "template", "content_hash", "note", "loosened", "loosened_after",
            "created_by", "created_at", "decision",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STANDINGS))
    def get_standing(self, policy: Policy) -> str:
        return actions.standing_of(policy, in_force=self.context["in_force"])

    def get_template(self, policy: Policy) -> str:
        return str(policy.document.get("template", ""))

    @extend_schema_field(DecisionRow(allow_null=True))
    def get_decision(self, policy: Policy) -> dict[str, Any] | None:
        decision = getattr(policy, "decision", None)
        return dict(DecisionRow(decision).data) if decision is not None else None


class PolicyDetail(PolicyRow):
    class Meta(PolicyRow.Meta):
        fields = (*PolicyRow.Meta.fields, "document")
        read_only_fields = fields


class DifferenceAnswer(serializers.Serializer[Any]):
    model = serializers.CharField()
    number = serializers.IntegerField(allow_null=True, help_text="Null: it was not proposed.")
    against = serializers.IntegerField(allow_null=True, help_text="Null: there is none before it, everything is new.")
    changes = SettingChangeRow(many=True)
    words = serializers.ListField(child=serializers.CharField(), help_text="Each change in a sentence.")


class FlipRow(serializers.Serializer[Any]):
    check = serializers.CharField()
    was = serializers.CharField(allow_blank=True, help_text="Empty: it was not asked.")
    would = serializers.CharField(allow_blank=True, help_text="Empty: it would not be asked.")


class TriedRow(serializers.Serializer[Any]):
    """One version's last judged run, under the other policy."""

    gate_run = serializers.IntegerField()
    version = serializers.IntegerField()
    policy = serializers.IntegerField(help_text="Number of the policy that it was judged under.")
    ended = serializers.CharField(help_text="What its checks came to.")
    would_end = serializers.CharField(allow_null=True, help_text="Null: it can not be told.")
    changed = FlipRow(many=True, help_text="Checks that come out, or count, otherwise.")
    untold = serializers.ListField(child=serializers.CharField(), help_text="Checks of which nothing is known.")


class DryRunAnswer(serializers.Serializer[Any]):
    sentence = serializers.CharField()
    differing = serializers.IntegerField(help_text="Versions that would have ended otherwise.")
    untold = serializers.IntegerField(help_text="Versions of which it can not be told.")
    rows = TriedRow(many=True, help_text="Newest version first.")
    difference = DifferenceAnswer(help_text="From the policy in force.")


class OpenRow(serializers.Serializer[Any]):
    check = serializers.CharField()
    setting = serializers.CharField()
    asked = serializers.CharField()


class TemplateAnswer(serializers.Serializer[Any]):
    template = serializers.CharField(help_text="name@revision")
    task = serializers.ChoiceField(choices=Task.choices)
    document = MappingField(help_text="What is open is not in it.")
    open = OpenRow(many=True, help_text="What only the owners can say.")


# ---------------------------------------------------------------------- what is sent


class DocumentBody(Body):
    """A policy in one of three forms: a whole ``document``, the same as ``yaml``, a ``template`` with ``overrides``."""

    document = MappingField(required=False)
    yaml = serializers.CharField(required=False, max_length=LARGEST, trim_whitespace=False)
    template = serializers.CharField(required=False, help_text="experimental, standard or high-stakes")
    overrides = MappingField(
        required=False, help_text="The document's keys; checks by id: settings, a new check, null to drop it."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = [form for form in ("document", "yaml", "template") if form in attrs]
        if len(given) != 1:
            raise serializers.ValidationError({"document": ["Give exactly one of document, yaml and template."]})
        if "overrides" in attrs and given != ["template"]:
            raise serializers.ValidationError({"overrides": ["Overrides belong to a template."]})
        return attrs


class ProposalBody(DocumentBody):
    note = serializers.CharField(max_length=2000, help_text="Why it changes: this is the record.")


class DryRunBody(DocumentBody):
    last = serializers.IntegerField(required=False, default=LAST, min_value=1, max_value=MOST)


class DecisionBody(Body):
    outcome = serializers.ChoiceField(choices=list(VERBS))
    reason = serializers.CharField(max_length=2000, help_text="Why: this is the record of the decision.")


def document_of(body: Mapping[str, Any], registered_model: RegisteredModel) -> PolicyDocument:
    """The document that was sent. Raises InvalidInput whose fields start with the form (``yaml.checks.ci.require``);
    of YAML each text starts with line and column."""
    try:
        if "yaml" in body:
            return load(body["yaml"], model=registered_model.name)
        if "document" in body:
            return parse(body["document"])
        tier, task = body["template"], registered_model.task
        return templates.from_template(tier, task=task, overrides=body.get("overrides"))
    except PolicyTextError as wrong:
        raise InvalidInput(_by_field(wrong)) from wrong
    except PolicyError as wrong:
        raise InvalidInput(_below("document" if "document" in body else "overrides", wrong.errors)) from wrong


def _by_field(wrong: PolicyTextError) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    for each in wrong.problems:
        field = f"yaml.{each.path}" if each.path else "yaml"
        errors.setdefault(field, []).append(f"line {each.line}, column {each.column}: {each.message}")
    return errors


def _below(form: str, errors: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of a document as fields of the body."""
    named = {"document": form, "template": "template" if form == "overrides" else f"{form}.template"}
    return {named.get(path, f"{form}.{path}"): texts for path, texts in errors.items()}


# ---------------------------------------------------------------------- the addresses

POLICIES: QuerySet[Policy] = Policy.objects.select_related(
    "registered_model", "created_by", "decision__decided_by", "loosened_after__version"
)
FORM = OpenApiParameter("form", str, enum=(JSON, YAML), description="yaml: as text to be edited. Else: json.")
NUMBER = OpenApiParameter("against", int, description="Number of another policy. Else: the one in force.")


def _either(answer: Any) -> dict[tuple[int, str], Any]:
    # A schema is of what the text says, not of the text: whoever reads YAML finds an object.
    return {(200, "application/json"): answer, (200, MEDIA_TYPE): OpenApiTypes.OBJECT}


class YamlText(renderers.BaseRenderer):
    """Text that is YAML already."""

    media_type, format, charset = MEDIA_TYPE, YAML, "utf-8"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return str(data).encode()


class InForms(ApiView):
    """What is answered as JSON, or with ``?form=yaml`` as text, whatever the caller accepts."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        return super().perform_content_negotiation(request, force=True)

    def is_yaml(self) -> bool:
        form = self.request.query_params.get("form", JSON)
        if form not in (JSON, YAML):
            raise exceptions.ValidationError({"form": [f"There is no form {form!r}. There are: {JSON}, {YAML}."]})
        return form == YAML

    def as_text(self, yaml: str) -> Response:
        # a response of REST framework, so that it has its ETag as every other
        self.request.accepted_renderer, self.request.accepted_media_type = YamlText(), MEDIA_TYPE
        return Response(yaml)


class OfPolicies(OfModel):
    """A view of a model's policies."""

    @cached_property
    def newest(self) -> Policy | None:
        """The policy in force."""
        return actions.in_force(self.registered_model)

    def numbered(self, number: int) -> Policy:
        found = POLICIES.filter(registered_model=self.registered_model, number=number).first()
        if found is None:
            raise NotFound(f"{self.registered_model} has no policy {number}.")
        return found

    def detail(self, policy: Policy) -> dict[str, Any]:
        return dict(PolicyDetail(policy, context={"in_force": self.newest.number if self.newest else None}).data)

    def difference(self, before: Policy | None, after: PolicyDocument, number: int | None) -> dict[str, Any]:
        changes: tuple[Change, ...] = actions.changes_since(before, after)
        return {
            "model": self.registered_model.name,
            "number": number,
            "against": before.number if before else None,
            "changes": [change.as_dict() for change in changes],
            "words": [str(change) for change in changes],
        }


class PolicyFilter(filters.FilterSet):
    created_by = filters.CharFilter(field_name="created_by__username")


class Policies(OfPolicies, ListingOfModel):
    """What a model's versions must prove, newest first; data science proposes here."""

    scope = scopes.DECIDE

    queryset = POLICIES
    serializer_class = PolicyRow
    filterset_class = PolicyFilter

    def get_serializer_context(self) -> dict[str, Any]:
        # while the schema is made there is no model
        newest = None if getattr(self, "swagger_fake_view", False) else self.newest
        return {**super().get_serializer_context(), "in_force": newest.number if newest else None}

    @extend_schema(
        operation_id="policies_propose",
        request=ProposalBody,
        responses={201: OpenApiResponse(PolicyDetail, "It waits for a second person.")},
    )
    def post(self, request: Request, name: str) -> Response:
        """Propose a policy; a second person, with the product or the platform duty, puts it in force.

        What it asks less of than the policy in force is kept with it, for ever. The content of the policy in force, or
        of the one that waits, answers that one. 409 while another proposal waits.
        """
        body = self.read(ProposalBody)
        document = document_of(body, self.registered_model).model_dump(mode="json")
        form = next(form for form in ("document", "yaml", "template") if form in body)
        try:
            policy = actions.propose_policy(
                self.registered_model, document=document, note=body["note"], actor=self.user, now=clock.now()
            )
        except InvalidInput as refusal:
            raise InvalidInput(_below("overrides" if form == "template" else form, refusal.errors)) from refusal
        url = reverse("api:policy", args=[name, policy.number])
        answer = self.detail(self.numbered(policy.number))
        return Response(answer, status=status.HTTP_201_CREATED, headers={"Location": url})


class OnePolicy(OfPolicies, InForms):
    """One policy with its document, who proposed and who decided."""

    query = ("form",)

    @extend_schema(operation_id="policies_retrieve", parameters=[FORM], responses=_either(PolicyDetail))
    def get(self, request: Request, name: str, number: int) -> Response:
        return self.answered(self.numbered(number))

    def answered(self, policy: Policy) -> Response:
        if self.is_yaml():
            return self.as_text(actions.policy_text(policy))
        return Response(self.detail(policy))


class PolicyInForce(OnePolicy):
    """The policy that versions are judged under now."""

    @extend_schema(operation_id="policies_in_force", parameters=[FORM], responses=_either(PolicyDetail))
    def get(self, request: Request, name: str, number: int = 0) -> Response:
        if self.newest is None:
            raise NotFound(f"{self.registered_model} has no policy in force yet.")
        return self.answered(self.numbered(self.newest.number))


class PolicyDifference(OfPolicies):
    """What a policy asks otherwise than another."""

    query = ("against",)

    @extend_schema(operation_id="policies_diff", parameters=[NUMBER], responses=DifferenceAnswer)
    def get(self, request: Request, name: str, number: int) -> Response:
        """Against the policy in force; the one in force itself, against the one before it."""
        policy = self.numbered(number)
        return Response(self.difference(self._against(policy), actions.document_of(policy), policy.number))

    def _against(self, policy: Policy) -> Policy | None:
        given = self.request.query_params.get("against")
        if given is not None:
            if not (given.isascii() and given.isdigit() and len(given) < 10):
                raise exceptions.ValidationError({"against": ["The number of a policy is needed."]})
            return self.numbered(int(given))
        if self.newest is None or self.newest.pk != policy.pk:
            return self.newest
        confirmed = Policy.objects.filter(
            registered_model=self.registered_model, decision__outcome=PolicyOutcome.CONFIRMED, number__lt=policy.number
        )
        before: Policy | None = confirmed.order_by("-number").first()
        return before


class PolicyDecisions(OfPolicies):
    """The second person's word on a proposal, or its withdrawal."""

    scope = scopes.DECIDE

    @extend_schema(operation_id="policies_decide", request=DecisionBody, responses={201: PolicyDetail})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Confirm or decline a proposal of somebody else, with the product or platform duty; withdraw it, as an owner
        of data science. Each proposal is decided on once (409)."""
        body = self.read(DecisionBody)
        policy = self.numbered(number)
        VERBS[body["outcome"]](policy, reason=body["reason"], actor=self.user, now=clock.now())
        return Response(self.detail(self.numbered(number)), status=status.HTTP_201_CREATED)


class PolicyDryRun(OfPolicies):
    """What another policy would have made of the past."""

    scope: ClassVar[str] = scopes.READ  # it computes, and changes nothing
    takes_keys: ClassVar[bool] = False

    @extend_schema(operation_id="policies_dry_run", request=DryRunBody, responses=DryRunAnswer)
    def post(self, request: Request, name: str) -> Response:
        """Judge the model's last versions again under a policy that need not be proposed, and compare it with the one
        in force. Nothing is recorded."""
        body = self.read(DryRunBody)
        document = document_of(body, self.registered_model)
        tried = dry_run(self.registered_model, document, last=body["last"])
        difference = self.difference(self.newest, document, None)
        return Response({**tried.as_dict(), "difference": difference})


class PolicyTemplate(InForms):
    """Where a tier's policies start."""

    query = ("form", "task")

    @extend_schema(
        operation_id="policy_templates_retrieve",
        parameters=[FORM, OpenApiParameter("task", str, enum=Task.values)],
        responses=_either(TemplateAnswer),
    )
    def get(self, request: Request, tier: str) -> Response:
        task = request.query_params.get("task", Task.BINARY_CLASSIFICATION)
        if task not in Task.values:
            raise exceptions.ValidationError(
                {"task": [f"There is no task {task!r}. There are: {', '.join(Task.values)}."]}
            )
        if tier not in templates.TIERS:
            raise NotFound(f"There is no template {tier!r}; there are {', '.join(templates.TIERS)}.")
        if self.is_yaml():
            return self.as_text(templates.as_yaml(tier, task=task))
        asked = templates.open_settings(tier, task=task).items()
        document = templates.template(tier, task=task)
        return Response(
            {
                "template": document["template"],
                "task": task,
                "document": document,
                "open": [{"check": check, "setting": setting, "asked": text} for (check, setting), text in asked],
            }
        )
