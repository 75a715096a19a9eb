"""Django: migrations, the ORM, and the admin by its test client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, connection, models, transaction
from django.test import Client
from django.test.utils import setup_test_environment, teardown_test_environment

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "Django"
VERSION = django.__version__
APPLICATIONS = ["admin", "auth", "contenttypes", "sessions", "messages", "postgres"]


def _configure(home: Home) -> None:
    parts = home.server.url_parts
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "OPTIONS": {"options": f"-c search_path={home.schema},public"},
        **{name: parts[key] for name, key in (("NAME", "database"), ("USER", "user"), ("PASSWORD", "password"),
                                              ("HOST", "host"), ("PORT", "port"))},
    }  # fmt: skip
    middleware = ("sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware",
                  "messages.middleware.MessageMiddleware")  # fmt: skip
    processors = ("contrib.auth.context_processors.auth", "contrib.messages.context_processors.messages",
                  "template.context_processors.request")  # fmt: skip
    settings.configure(
        SECRET_KEY="for tests",
        DATABASES={"default": database},
        INSTALLED_APPS=[*(f"django.contrib.{name}" for name in APPLICATIONS), "clients.django_home"],
        MIDDLEWARE=[f"django.contrib.{name}" for name in middleware],
        ROOT_URLCONF="clients.django_home.urls",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": [f"django.{name}" for name in processors]},
            }
        ],  # fmt: skip
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()


@pytest.fixture(scope="module")
def app(home: Home) -> Iterator[Any]:
    """The models, after `migrate`."""
    _configure(home)
    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT create_distributed_table('django_home_visit', 'id', shard_count => 2)")
    from clients.django_home import models as made

    yield made
    connection.close()
    teardown_test_environment()


def _migrate(app: Any) -> None:
    """`migrate` of the contrib applications, `makemigrations --check`, `showmigrations`, `inspectdb`"""
    call_command("migrate", verbosity=0)
    call_command("makemigrations", *(name for name in APPLICATIONS[:4]), check=True, dry_run=True, verbosity=0)
    names = connection.introspection.table_names()
    assert {"django_migrations", "auth_user", "django_admin_log", "person", "django_home_visit"} <= set(names)
    with connection.cursor() as cursor:
        assert connection.introspection.get_primary_key_column(cursor, "person") == "id"
        constraints = connection.introspection.get_constraints(cursor, "person")
        assert constraints["age_is_sane"]["check"] and constraints["person_town"]["index"]
    assert app.Visit.objects.count() == 0


def _queries(app: Any) -> None:
    """aggregates, annotations, select_related, prefetch_related, subqueries, F and Q, window functions, values, iterator"""
    people = app.Person.objects
    assert people.aggregate(n=models.Count("*"), oldest=models.Max("age")) == {"n": PEOPLE, "oldest": PEOPLE}
    by_town = people.values("town__name").annotate(n=models.Count("id"), age=models.Avg("age")).order_by("town__name")
    assert [row["n"] for row in by_town] == [PEOPLE // 3] * 3
    assert {person.town.name for person in people.select_related("town")} == {"Hamburg", "Lübeck", "Tallinn"}
    assert sum(len(person.letters.all()) for person in people.prefetch_related("letters")) == PEOPLE * LETTERS
    heavy = app.Letter.objects.filter(person=models.OuterRef("pk")).order_by("-weight").values("weight")[:1]
    assert people.annotate(top=models.Subquery(heavy)).get(pk=10).top == 10 + (LETTERS - 1) / 4
    assert people.filter(models.Q(age__gt=models.F("id") - 1) & ~models.Q(town="HH")).count() == PEOPLE * 2 // 3
    ranked = people.annotate(
        rank=models.Window(models.functions.RowNumber(), partition_by="town", order_by=models.F("age").desc())
    )
    assert sum(person.rank == 1 for person in ranked) == 3
    assert people.filter(letters__body__contains=".1", tags__contains=["t7"]).distinct().get().name == "person 7"
    assert [person.pk for person in people.order_by("pk").iterator(chunk_size=7)] == list(range(1, PEOPLE + 1))
    assert app.Letter.objects.get(pk=(4, 1)).body == "letter 4.1"
    assert people.in_bulk([1, 2]).keys() == {1, 2} and people.filter(pk__in=[1, 2, 3]).exists()


def _writes(app: Any) -> None:
    """save, bulk_create, bulk_update, get_or_create, update_or_create, F updates, delete with cascade, upserts"""
    with transaction.atomic():
        made = app.Person.objects.bulk_create([app.Person(name=f"n{i}", age=i) for i in range(40)])
        assert len({person.pk for person in made}) == 40
        for person in made:
            person.age = 5
        assert app.Person.objects.bulk_update(made, ["age"]) == 40
        assert app.Person.objects.filter(name__startswith="n").update(age=models.F("age") + 1) == 40
        person, fresh = app.Person.objects.get_or_create(name="only", defaults={"age": 1})
        assert fresh and app.Person.objects.get_or_create(name="only") == (person, False)
        assert app.Person.objects.update_or_create(pk=person.pk, defaults={"age": 2})[0].age == 2
        letters = [app.Letter(person=person, n=n, body="x") for n in range(3)]
        app.Letter.objects.bulk_create(letters)
        app.Letter.objects.bulk_create(
            letters, update_conflicts=True, unique_fields=["person", "n"], update_fields=["body"]
        )
        assert person.delete() == (4, {"django_home.Letter": 3, "django_home.Person": 1})
        app.Visit.objects.create(place="x", data={"a": [1]})
        visit = app.Visit.objects.get(data__a=[1])
        visit.minutes = models.F("minutes") + 3
        visit.save()
        visit.refresh_from_db()
        assert visit.minutes == 3
        transaction.set_rollback(True)
    assert app.Person.objects.count() == PEOPLE


def _transactions(app: Any) -> None:
    """atomic blocks, savepoints, select_for_update, integrity errors, on_commit"""
    done: list[str] = []
    with transaction.atomic():
        with pytest.raises(IntegrityError, match='"person_pkey"'), transaction.atomic():
            app.Person.objects.create(pk=1, name="dup")
        with pytest.raises(IntegrityError, match='check constraint "age_is_sane"'), transaction.atomic():
            app.Person.objects.filter(pk=1).update(age=-1)
        locked = app.Person.objects.select_for_update(of=("self",)).select_related("town").get(pk=3)
        assert locked.town.code == "HH"
        assert len(app.Person.objects.select_for_update(skip_locked=True).filter(age__lt=10)) == 9
        transaction.on_commit(lambda: done.append("committed"))
    assert done == ["committed"]


def _admin(app: Any) -> None:
    """the admin: login page, change list with search and filter, add, change and delete forms, history"""
    from django.contrib.auth.models import User

    User.objects.create_superuser("root", password="secret")
    client = Client()
    assert client.get("/admin/login/").status_code == 200
    assert client.login(username="root", password="secret")
    page = client.get("/admin/django_home/person/?q=person+1&town__code__exact=HH")
    assert page.status_code == 200 and b"person 12" in page.content
    form = {"name": "from the admin", "age": "33", "town": "HL", "tags": "a,b"}
    assert client.post("/admin/django_home/person/add/", form).status_code == 302
    person = app.Person.objects.get(name="from the admin")
    assert client.get(f"/admin/django_home/person/{person.pk}/change/").status_code == 200
    assert client.post(f"/admin/django_home/person/{person.pk}/change/", {**form, "age": "34"}).status_code == 302
    person.refresh_from_db()
    assert (person.age, person.tags) == (34, ["a", "b"])
    assert client.get(f"/admin/django_home/person/{person.pk}/history/").status_code == 200
    assert client.post(f"/admin/django_home/person/{person.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not app.Person.objects.filter(pk=person.pk).exists()
    assert (
        client.post("/admin/django_home/visit/add/", {"place": "x", "minutes": "1", "data": "[1]"}).status_code == 302
    )


STEPS = (_migrate, _queries, _writes, _transactions, _admin)


def test_django(app: Any) -> None:
    """One test, because the migrations take their time."""
    for step in STEPS:
        step(app)
