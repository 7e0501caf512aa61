"""The admin's common ground. Every import of unfold is here, so that another theme, or plain admin, is one file.

A *desk* shows one kind of record read-only, with its state, its reason and links along the chain of causes. What may be
changed is a ``Decision``: a button that leads to a page with the evidence and a form, which calls one verb of the app's
``actions``. The verb checks the duty; the desk only decides whom to offer the button.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import JSONField, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display as unfold_display
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import (
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from audit import clock
from audit.errors import InvalidInput
from audit.models import Event, Stateful
from audit.pages import admin_url, badge

__all__ = [
    "AdminPasswordChangeForm",
    "Answer",
    "Choice",
    "Choices",
    "CodeText",
    "Decision",
    "Desk",
    "Lines",
    "Link",
    "LongText",
    "ModelAdmin",
    "Moment",
    "Number",
    "ReasonForm",
    "RowChoice",
    "RowChoices",
    "Rows",
    "ShortText",
    "StateFilter",
    "UserChangeForm",
    "UserCreationForm",
    "display",
    "mono",
    "signed_in",
]

EVENTS_SHOWN = 30
VARIANTS = {"": ActionVariant.DEFAULT, "primary": ActionVariant.PRIMARY, "danger": ActionVariant.DANGER}


F = TypeVar("F", bound=Callable[..., Any])


def display(**options: Any) -> Callable[[F], F]:
    """A column that a method computes: unfold's decorator, with a type."""
    decorator: Callable[[F], F] = unfold_display(**options)
    return decorator


def _field(factory: Callable[..., forms.Field], widget: Callable[..., forms.Widget]) -> Callable[..., Any]:
    return lambda **options: factory(widget=widget(), **options)


LongText = _field(forms.CharField, partial(UnfoldAdminTextareaWidget, attrs={"rows": 4}))
CodeText = _field(forms.CharField, partial(UnfoldAdminTextareaWidget, attrs={"rows": 18, "class": "gh-mono"}))
ShortText = _field(forms.CharField, UnfoldAdminTextInputWidget)
Number = _field(forms.FloatField, UnfoldAdminTextInputWidget)
Moment = _field(forms.DateTimeField, partial(UnfoldAdminTextInputWidget, attrs={"type": "datetime-local"}))
"""A date with its time, in UTC."""
Choice = _field(forms.ChoiceField, UnfoldAdminSelectWidget)
Choices = _field(forms.MultipleChoiceField, partial(UnfoldAdminSelectMultipleWidget, attrs={"size": 6}))
RowChoice = _field(forms.ModelChoiceField, UnfoldAdminSelectWidget)
RowChoices = _field(forms.ModelMultipleChoiceField, partial(UnfoldAdminSelectMultipleWidget, attrs={"size": 8}))


class ReasonForm(forms.Form):
    """What every decision asks. Subclasses add fields; each must be an argument of the verb."""

    reason = LongText(label="Reason", help_text="Recorded with your name and the time, for good.")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        self.subject, self.user = subject, user
        super().__init__(*args, **{"initial": dict(self.present(subject)), **kwargs})
        self.order_fields([name for name in self.fields if name != "reason"])

    def present(self, subject: Any) -> Mapping[str, Any]:
        """The values that the form starts with."""
        return {}


@dataclass(frozen=True)
class Decision:
    """A button of a desk: ``carry_out(subject, actor=…, now=…, **form)`` is a verb of the app's actions.

    ``offered`` says whether the button is shown to a user for a row (None for a button of the list); it grants nothing.
    ``consequence`` is the sentence above the form that says what will happen. ``reads`` adds tables to those above the
    form (``Desk.evidence``): what only a higher app knows, and what depends on who reads it.
    """

    name: str
    label: str
    consequence: str
    carry_out: Callable[..., Any]
    offered: Callable[[Any, User], bool]
    form: type[ReasonForm] = ReasonForm
    variant: str = ""
    icon: str = "gavel"
    for_list: bool = False
    reads: Callable[[Any, User], Iterable[Lines]] | None = None


@dataclass(frozen=True)
class Answer:
    """What a decision's verb may return: what to say, and the record whose page is shown next."""

    said: str
    row: Model


@dataclass(frozen=True)
class Link:
    """One step along the chain of causes: what it is to this row, and the rows."""

    label: str
    rows: Sequence[Model]


@dataclass(frozen=True)
class Lines:
    """Something to read above a decision or below a record: a titled table of name and text."""

    title: str
    rows: Sequence[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True)
class _Step:
    """A linked row as the template shows it."""

    text: str
    url: str | None
    state: str = field(default="")


class StateFilter(admin.SimpleListFilter):
    """By state, in the order of a row's life."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, str(label).lower()) for value, label in model_admin.model.STATES.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() else queryset


class Desk(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Read-only pages of one kind of record for everybody who works in the admin (staff), with decisions as buttons.

    Rights are derived here, not kept as permission rows: staff may look at what ``visible`` leaves, nobody may add,
    change or delete through a form.
    """

    decisions: ClassVar[tuple[Decision, ...]] = ()
    portal: ClassVar[str] = ""
    """Name of the portal page of a row, with ``portal_arguments``."""
    events_title: ClassVar[str] = "What happened to it"
    actions = None
    show_add_link = False
    list_per_page = 50
    list_filter_sheet = False
    list_disable_select_all = True
    show_facets = admin.ShowFacets.NEVER
    change_form_outer_before_template = "admin/desk/before.html"
    change_form_outer_after_template = "admin/desk/after.html"

    def __init__(self, model: type[Model], admin_site: Any) -> None:
        for decision in self.decisions:
            setattr(self, decision.name, self._button(decision))
        self.actions_detail = [each.name for each in self.decisions if not each.for_list]
        self.actions_list = [each.name for each in self.decisions if each.for_list]
        super().__init__(model, admin_site)

    # ------------------------------------------------------------------ who may see what

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return self.visible(super().get_queryset(request), signed_in(request))

    def visible(self, rows: QuerySet[Any], user: User) -> QuerySet[Any]:
        """The rows that ``user`` may look at."""
        return rows

    # ------------------------------------------------------------------ what is shown

    def links(self, subject: Any, user: User) -> Iterable[Link]:
        """The steps along the chain of causes that start or end at this row."""
        return ()

    def lines(self, subject: Any) -> Iterable[Lines]:
        """Tables to read below the record."""
        return ()

    def evidence(self, subject: Any, decision: Decision) -> Iterable[Lines]:
        """Tables to read before a decision, above its form."""
        return ()

    def events(self, subject: Any, user: User) -> list[Event]:
        """The events at the foot of the page: those about this row, newest first."""
        about = Event.objects.about(subject).select_related("actor", "cause").prefetch_related("effects")
        return list(about.order_by("-id")[:EVENTS_SHOWN])

    def portal_arguments(self, subject: Any) -> list[Any]:
        return [subject.pk]

    @display(description="state", ordering="state")
    def state_badge(self, row: Any) -> SafeString:
        return badge(row.state)

    @display(description="why")
    def why(self, row: Any) -> str:
        return Truncator(row.state_reason).chars(110)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """All columns but the state, which stands above them with its reason."""
        if self.fields:
            return list(self.fields)
        hidden = {"id", "state", "state_reason", "state_since"} if issubclass(self.model, Stateful) else {"id"}
        own = [each.name for each in self.model._meta.fields if each.name not in hidden]
        return own + [each.name for each in self.model._meta.many_to_many]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[tuple[str | None, dict[str, Any]]]:
        """The columns in one block, long stored documents (JSON) folded away below them."""
        names = self.get_fields(request, obj)
        documents = [name for name in names if self._is_document(name)]
        shown: list[tuple[str | None, dict[str, Any]]] = [
            (None, {"fields": [name for name in names if name not in documents]})
        ]
        if documents:
            shown.append(("As stored", {"fields": documents, "classes": ["collapse"]}))
        return shown

    def _is_document(self, name: str) -> bool:
        columns = {each.name: each for each in self.model._meta.fields}
        return isinstance(columns.get(name), JSONField)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [name for name in self.get_fields(request, obj) if isinstance(name, str)]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        subject = self.get_object(request, unquote(object_id)) if object_id else None
        desk = self._desk(subject, signed_in(request)) if subject is not None else {}
        return super().changeform_view(request, object_id, form_url, {**(extra_context or {}), **desk})

    def _desk(self, subject: Any, user: User) -> dict[str, Any]:
        return {
            "title": str(subject),
            "subject": subject,
            "is_stateful": isinstance(subject, Stateful),
            "portal_url": reverse(self.portal, args=self.portal_arguments(subject)) if self.portal else None,
            "desk_links": [
                (link.label, [_step(row) for row in link.rows]) for link in self.links(subject, user) if link.rows
            ],
            "desk_lines": list(self.lines(subject)),
            "events_title": self.events_title,
            "desk_events": self.events(subject, user),
        }

    # ------------------------------------------------------------------ decisions

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        subject = self.get_object(request, unquote(str(object_id)))
        return self._offered(super().get_actions_detail(request, object_id), subject, signed_in(request))

    def get_actions_list(self, request: HttpRequest) -> list[Any]:
        return self._offered(super().get_actions_list(request), None, signed_in(request))

    def _offered(self, buttons: list[Any], subject: Any, user: User) -> list[Any]:
        candidates = [each for each in self.decisions if each.for_list == (subject is None)]
        offers = {each.name for each in candidates if each.offered(subject, user)}
        return [button for button in buttons if button.path in offers]

    def _button(self, decision: Decision) -> Callable[..., HttpResponse]:
        """The decision as unfold takes an action: a view with attributes that describe its button."""

        def view(request: HttpRequest, object_id: str | None = None) -> HttpResponse:
            return self._decide(request, decision, object_id)

        view.__name__ = decision.name
        view.__dict__.update(
            short_description=decision.label,
            url_path=decision.name,
            attrs={},
            icon=decision.icon,
            variant=VARIANTS[decision.variant],
            dialog=None,
        )
        return view

    def _decide(self, request: HttpRequest, decision: Decision, object_id: str | None) -> HttpResponse:
        """Show the evidence and the form; on POST carry the verb out. Refusals of the verb pass to audit.edges."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        subject = self._subject(request, object_id)
        user, back = signed_in(request), self._page_of(subject)
        form = decision.form(subject, user, request.POST or None)
        if (
            request.method == "POST"
            and form.is_valid()
            and (done := self._carried_out(request, decision, subject, form))
        ):
            is_gone = subject is not None and subject.pk is None
            next_page = self._page_of(done.row) if isinstance(done, Answer) else back
            return HttpResponseRedirect(self._page_of(None) if is_gone else next_page)
        if request.method != "POST" and not decision.offered(subject, user):
            messages.warning(request, f"“{decision.label}” is not open to you for this record in its present state.")
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": decision.label,
            "subtitle": str(subject) if subject is not None else None,
            "opts": self.model._meta,
            "decision": decision,
            "subject": subject,
            "is_stateful": isinstance(subject, Stateful),
            "lines": self._read_first(subject, decision, user) if subject is not None else [],
            "form": form,
            "back": back,
        }
        status = 422 if form.errors else 200
        return TemplateResponse(request, "admin/desk/decide.html", context, status=status)

    def _read_first(self, subject: Any, decision: Decision, user: User) -> list[Lines]:
        return [*self.evidence(subject, decision), *(decision.reads(subject, user) if decision.reads else ())]

    def _carried_out(self, request: HttpRequest, decision: Decision, subject: Any, form: ReasonForm) -> Answer | bool:
        """Call the verb; False when it found a field wrong, which the form then shows."""
        arguments = {**form.cleaned_data, "actor": signed_in(request), "now": clock.now()}
        try:
            answer = decision.carry_out(*([] if decision.for_list else [subject]), **arguments)
        except InvalidInput as refusal:
            for name, texts in refusal.errors.items():
                form.add_error(name if name in form.fields else None, texts)
            return False
        said = answer.said if isinstance(answer, Answer) else answer
        messages.success(request, said if isinstance(said, str) else f"Done and recorded: {decision.label}.")
        return answer if isinstance(answer, Answer) else True

    def _subject(self, request: HttpRequest, object_id: str | None) -> Any:
        if object_id is None:
            return None
        subject = self.get_object(request, unquote(object_id))
        if subject is None:
            raise Http404
        return subject

    def _page_of(self, subject: Any) -> str:
        if subject is not None and (url := admin_url(subject)):
            return url
        return reverse(f"admin:{self.model._meta.app_label}_{self.model._meta.model_name}_changelist")


class Rows(TabularInline):  # type: ignore[misc]  # unfold has no types
    """Rows that belong to a record, to read."""

    extra = 0
    can_delete = False
    show_change_link = False
    hide_title = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return list(self.fields)


def _step(row: Model) -> _Step:
    return _Step(str(row), admin_url(row), getattr(row, "state", "") or getattr(row, "verdict", ""))


def signed_in(request: HttpRequest) -> User:
    """The user of an admin page."""
    assert isinstance(request.user, User)  # the admin's own views let nobody else in
    return request.user


def mono(text: str) -> SafeString:
    """A digest or a path, in letters of equal width."""
    return format_html('<span class="gh-mono">{}</span>', text) if text else mark_safe("—")
