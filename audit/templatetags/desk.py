"""Filters of the admin's own templates."""

from __future__ import annotations

from django import template
from django.db.models import Model

from audit.pages import admin_url, badge

register = template.Library()
register.filter("badge", badge)


@register.filter
def admin_page(row: Model) -> str:
    """The admin page of a row; empty where its kind has none."""
    return admin_url(row) or ""
