"""Models of the tables that are there, and one that Django makes."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Town(models.Model):
    code = models.TextField(primary_key=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "town"


class Person(models.Model):
    id = models.BigAutoField(primary_key=True)
    town = models.ForeignKey(Town, models.PROTECT, null=True, db_column="town")
    name = models.TextField()
    age = models.IntegerField(null=True)
    tags = ArrayField(models.TextField(), null=True)

    class Meta:
        managed = False
        db_table = "person"


class Letter(models.Model):
    pk = models.CompositePrimaryKey("person_id", "n")
    person = models.ForeignKey(Person, models.CASCADE, related_name="letters")
    n = models.IntegerField()
    body = models.TextField(null=True)
    weight = models.DecimalField(max_digits=6, decimal_places=2, null=True)

    class Meta:
        managed = False
        db_table = "letter"


class Visit(models.Model):
    """Made by `migrate`, then sharded by its id."""

    place = models.CharField(max_length=40, db_index=True)
    minutes = models.PositiveIntegerField(default=0)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)
