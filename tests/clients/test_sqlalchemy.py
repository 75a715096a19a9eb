"""SQLAlchemy 2 with psycopg and asyncpg: Core, ORM, reflection; Alembic's migrations."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from clients.home import LETTERS, PEOPLE, Home

CLIENT = "SQLAlchemy, Alembic"
VERSION = f"{sa.__version__}, {alembic.__version__}"


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Base(orm.DeclarativeBase):
    pass


class Shop(Base):
    __tablename__ = "shop"
    __table_args__ = ({"postgresql_partition_by": "HASH (id)", "postgresql_with": {"shards": 4}},)
    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(), primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), index=True)
    colour: orm.Mapped[Colour] = orm.mapped_column(sa.Enum(Colour, name="colour"), default=Colour.red)
    data: orm.Mapped[dict[str, int] | None] = orm.mapped_column(postgresql.JSONB)
    tags: orm.Mapped[list[str] | None] = orm.mapped_column(postgresql.ARRAY(sa.Text))
    opened: orm.Mapped[datetime.datetime] = orm.mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())
    wares: orm.Mapped[list[Ware]] = orm.relationship(back_populates="shop", cascade="all, delete-orphan")


class Ware(Base):
    __tablename__ = "ware"
    __table_args__ = ({"postgresql_partition_by": "HASH (shop_id)", "postgresql_with": {"shards": 4}},)
    shop_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("shop.id"), primary_key=True)
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    price: orm.Mapped[decimal.Decimal] = orm.mapped_column(sa.Numeric(8, 2))
    shop: orm.Mapped[Shop] = orm.relationship(back_populates="wares")


class Setting(Base):
    __tablename__ = "setting"
    id: orm.Mapped[uuid.UUID] = orm.mapped_column(primary_key=True, default=uuid.uuid4)
    value: orm.Mapped[str] = orm.mapped_column(unique=True)


def _url(home: Home, driver: str) -> sa.URL:
    parts = home.server.url_parts
    address = {name: parts[name] for name in ("password", "host", "port", "database")}
    return sa.URL.create(f"postgresql+{driver}", parts["user"], **address)


@pytest.fixture
def engine(home: Home) -> Iterator[sa.Engine]:
    engine = sa.create_engine(_url(home, "psycopg"), connect_args={"options": f"-c search_path={home.schema},public"})
    yield engine
    engine.dispose()


def test_core(engine: sa.Engine) -> None:
    """Core: reflected tables, joins, window functions, upserts, insertmanyvalues, server-side cursors"""
    tables = sa.MetaData()
    tables.reflect(engine, only=["person", "letter", "town"])
    person, letter = tables.tables["person"], tables.tables["letter"]
    with engine.connect() as connection:
        joined = (
            sa.select(person.c.town, sa.func.count(), sa.func.sum(letter.c.weight)).join(letter).group_by(person.c.town)
        )
        assert sum(row[1] for row in connection.execute(joined)) == PEOPLE * LETTERS
        ranked = sa.select(
            person.c.id, sa.func.row_number().over(partition_by=person.c.town, order_by=person.c.id)
        ).subquery()
        assert len(connection.execute(sa.select(ranked).where(ranked.c[1] == 1)).all()) == 3
        inserted = connection.execute(
            sa.insert(person).returning(person.c.id, sort_by_parameter_order=True),
            [{"name": f"n{i}"} for i in range(50)],
        )
        assert len(set(inserted.scalars())) == 50
        upsert = postgresql.insert(letter).values([{"person_id": 1, "n": n, "body": "u"} for n in range(5)])
        upsert = upsert.on_conflict_do_update(index_elements=["person_id", "n"], set_={"body": upsert.excluded.body})
        assert connection.execute(upsert, execution_options={"preserve_rowcount": True}).rowcount == 5
        people = sa.select(person.c.id).where(person.c.age > 0)
        streamed = connection.execute(people, execution_options={"yield_per": 20})
        assert len(streamed.all()) == PEOPLE
        with pytest.raises(sa.exc.IntegrityError, match='unique constraint "person_pkey"'):
            connection.execute(sa.insert(person), {"id": 1, "name": "dup"})
        connection.rollback()


def test_reflection(engine: sa.Engine) -> None:
    """inspection: columns, identity, enums, keys, indexes, checks, comments, views, partitions left to the parent"""
    inspector = sa.inspect(engine)
    assert {"person", "letter", "town", "note"} <= set(inspector.get_table_names())
    columns = {column["name"]: column for column in inspector.get_columns("person")}
    assert columns["id"]["identity"]["always"] is False and columns["age"]["comment"] == "in years"
    assert isinstance(columns["mood"]["type"], postgresql.ENUM) and columns["mood"]["type"].enums == [
        "calm",
        "glad",
        "cross",
    ]
    assert inspector.get_pk_constraint("letter")["constrained_columns"] == ["person_id", "n"]
    # PostgreSQL has one more for each partition that is referred to, and SQLAlchemy shows those as well.
    (key,) = [key for key in inspector.get_foreign_keys("letter") if key["referred_table"] == "person"]
    assert (key["name"], key["referred_table"], key["referred_columns"]) == ("letter_person_id_fkey", "person", ["id"])
    assert {index["name"] for index in inspector.get_indexes("person")} == {"person_town", "person_id_name_key"}
    assert [check["name"] for check in inspector.get_check_constraints("person")] == ["age_is_sane"]
    assert [unique["name"] for unique in inspector.get_unique_constraints("person")] == ["person_id_name_key"]
    assert inspector.get_table_comment("person")["text"] == "who writes"
    assert "elder" in inspector.get_view_names() and "note_id_seq" in inspector.get_sequence_names()
    assert [found["name"] for found in inspector.get_enums()] == ["mood"]


def test_orm(engine: sa.Engine) -> None:
    """ORM: create_all with shards, unit of work, relationships, eager loading, bulk update, savepoints"""
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
    try:
        with orm.Session(engine) as session:
            _fill(session)
            shops = session.scalars(sa.select(Shop).options(orm.selectinload(Shop.wares)).order_by(Shop.name)).all()
            assert [len(shop.wares) for shop in shops] == [0, 1, 2, 3, 4, 5]
            joined = session.scalars(sa.select(Ware).options(orm.joinedload(Ware.shop)).where(Ware.number == 0)).all()
            assert {ware.shop.colour for ware in joined} == {Colour.red, Colour.blue}
            with pytest.raises(sa.exc.IntegrityError), session.begin_nested():
                session.add(Ware(shop_id=-5, number=1, price=decimal.Decimal(1)))
                session.flush()
            assert session.execute(sa.update(Shop).values(colour=Colour.blue)).rowcount == 6
            assert session.scalar(sa.select(sa.func.count()).where(Shop.colour == Colour.blue)) == 6
            locked = session.scalars(sa.select(Shop).where(Shop.id == shops[5].id).with_for_update()).one()
            session.delete(locked)
            session.commit()
            assert session.scalar(sa.select(sa.func.count()).select_from(Ware)) == 10
    finally:
        Base.metadata.drop_all(engine)


def _fill(session: orm.Session) -> None:
    for i in range(6):
        wares = [Ware(number=n, price=decimal.Decimal(n)) for n in range(i)]
        session.add(
            Shop(name=f"shop {i}", colour=(Colour.red, Colour.blue)[i % 2], tags=["a"], data={"i": i}, wares=wares)
        )
    session.add(Setting(value="on"))
    session.commit()


async def test_asyncpg(home: Home) -> None:
    """asyncpg dialect: Core, ORM, streaming, reflection through `run_sync`"""
    settings = {"server_settings": {"search_path": f"{home.schema},public"}}
    engine = create_async_engine(_url(home, "asyncpg"), connect_args=settings)
    tables = sa.MetaData()
    async with engine.connect() as connection:
        await connection.run_sync(lambda sync: tables.reflect(sync, only=["person", "note"]))
        person = tables.tables["person"]
        assert (await connection.execute(sa.select(person.c.mood).where(person.c.id == 1))).scalar() == "glad"
        result = await connection.stream(sa.select(person.c.id).order_by(person.c.id))
        assert [row.id async for row in result] == list(range(1, PEOPLE + 1))
        await connection.execute(sa.insert(person), [{"name": f"a{i}", "mood": "cross", "age": i} for i in range(30)])
        with pytest.raises(sa.exc.IntegrityError):
            await connection.execute(sa.insert(person), {"id": 1, "name": "dup"})
        await connection.rollback()
    async with AsyncSession(engine) as session:
        assert await session.scalar(sa.text("SELECT count(*) FROM letter")) == PEOPLE * LETTERS
    await engine.dispose()


ENVIRONMENT = """
from alembic import context
from clients.test_sqlalchemy import Base
connection = context.config.attributes["connection"]

def included(found, name, kind, *_):  # partitions, and foreign keys to them, are PostgreSQL's business
    if kind == "foreign_key_constraint":
        return found.elements[0].target_fullname.split(".")[0] in Base.metadata.tables
    return kind != "table" or name in Base.metadata.tables

context.configure(connection=connection, target_metadata=Base.metadata, include_object=included)
with context.begin_transaction():
    context.run_migrations()
"""
TEMPLATE = """
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = depends_on = None
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def test_alembic(engine: sa.Engine, tmp_path: Path) -> None:
    """Alembic: autogenerated revision, upgrade, no difference afterwards, downgrade"""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENVIRONMENT)
    (tmp_path / "script.py.mako").write_text(TEMPLATE)
    config = alembic.config.Config(attributes={"connection": None})
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        alembic.command.revision(config, "first", autogenerate=True)
        (written,) = (tmp_path / "versions").glob("*.py")
        assert "postgresql_partition_by='HASH (id)'" in written.read_text()
        alembic.command.upgrade(config, "head")
        alembic.command.check(config)
        assert (
            connection.execute(
                sa.text("SELECT count(*) FROM hanse.shards WHERE table_name = 'ware' AND schema = current_schema()")
            ).scalar()
            == 4
        )
        connection.commit()
        alembic.command.downgrade(config, "base")
        assert not {"shop", "ware"} & set(sa.inspect(connection).get_table_names())
        connection.execute(sa.text("DROP TYPE IF EXISTS colour"))
        connection.commit()
