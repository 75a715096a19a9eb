-- Tables over two groups, side 1 in g1 and side 2 in g2, with every kind of deferrable constraint that stays in one group.

CREATE TABLE accounts (
    side    int NOT NULL,
    id      int NOT NULL,
    balance int NOT NULL CHECK (balance >= 0),
    PRIMARY KEY (side, id)
) /*hanse PARTITION BY RANGE (side)*/;
/*hanse CREATE TABLE accounts_1 PARTITION OF accounts FOR VALUES FROM (1) TO (2) TABLESPACE g1*/;
/*hanse CREATE TABLE accounts_2 PARTITION OF accounts FOR VALUES FROM (2) TO (3) TABLESPACE g2*/;

CREATE TABLE parents (
    side int NOT NULL,
    id   int NOT NULL,
    rank int,
    PRIMARY KEY (side, id),
    CONSTRAINT parents_rank UNIQUE (side, rank) DEFERRABLE INITIALLY DEFERRED
) /*hanse PARTITION BY RANGE (side)*/;
/*hanse CREATE TABLE parents_1 PARTITION OF parents FOR VALUES FROM (1) TO (2) TABLESPACE g1*/;
/*hanse CREATE TABLE parents_2 PARTITION OF parents FOR VALUES FROM (2) TO (3) TABLESPACE g2*/;

CREATE TABLE children (
    side   int NOT NULL,
    id     int NOT NULL,
    parent int,
    place  int,
    PRIMARY KEY (side, id),
    CONSTRAINT children_parent FOREIGN KEY (side, parent) REFERENCES parents DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT children_place UNIQUE (side, place) DEFERRABLE INITIALLY IMMEDIATE
) /*hanse PARTITION BY RANGE (side)*/;
/*hanse CREATE TABLE children_1 PARTITION OF children FOR VALUES FROM (1) TO (2) TABLESPACE g1*/;
/*hanse CREATE TABLE children_2 PARTITION OF children FOR VALUES FROM (2) TO (3) TABLESPACE g2*/;

CREATE FUNCTION opened(name refcursor) RETURNS refcursor LANGUAGE plpgsql AS
    'BEGIN OPEN name SCROLL FOR SELECT * FROM generate_series(1, 5) AS n; RETURN name; END';
