"""What the admin shows."""

from __future__ import annotations

from django.contrib import admin

from .models import Person, Visit

admin.site.register(Person, list_display=("name", "town", "age"), search_fields=("name",), list_filter=("town",))
admin.site.register(Visit)
