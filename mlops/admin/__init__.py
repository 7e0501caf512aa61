"""The admin site's wiring: trail, system and people; what django-q and knox register by themselves goes away.

A django-q schedule row is code execution, and its task rows are unsigned pickles: none of its pages exists here.
"""

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from mlops.admin import features, lineage, people, system, trail

__all__ = ["features", "lineage", "people", "system", "trail"]

for model in (Failure, OrmQ, Schedule, Success):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
