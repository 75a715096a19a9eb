-- The corpus's tables. See support/corpus.py for /*hanse … */. search_path is the corpus's own schema.

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive_int AS integer CHECK (VALUE > 0);
CREATE TYPE address AS (street text, city text);

-- reference tables: full copies in every group
CREATE TABLE countries (
    code char(2) PRIMARY KEY,
    name text NOT NULL
) /*hanse WITH (distribution = 'reference')*/;

CREATE TABLE products (
    product_id int PRIMARY KEY,
    name       text NOT NULL,
    category   text,
    price      numeric(8,2) NOT NULL,
    attrs      jsonb,
    UNIQUE (name)
) /*hanse WITH (distribution = 'reference')*/;

-- co-located by customer_id bigint
CREATE TABLE customers (
    customer_id bigint PRIMARY KEY,
    name        varchar(40) NOT NULL,
    country     char(2) REFERENCES countries,
    credit      numeric(10,2) NOT NULL DEFAULT 0,
    rating      double precision,
    tags        text[],
    profile     jsonb,
    created     date,
    active      boolean NOT NULL DEFAULT true,
    feeling     mood
) /*hanse PARTITION BY HASH (customer_id) WITH (shards = 4)*/;

CREATE TABLE orders (
    customer_id bigint NOT NULL REFERENCES customers,
    order_id    bigint NOT NULL,
    status      text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid', 'sent', 'void')),
    placed      timestamp,
    total       numeric(12,2),
    note        text,
    PRIMARY KEY (customer_id, order_id)
) /*hanse PARTITION BY HASH (customer_id) WITH (shards = 4)*/;

CREATE TABLE order_lines (
    customer_id bigint NOT NULL,
    order_id    bigint NOT NULL,
    line_no     int NOT NULL,
    product_id  int NOT NULL REFERENCES products,
    quantity    int NOT NULL,
    price       numeric(10,2) NOT NULL,
    PRIMARY KEY (customer_id, order_id, line_no),
    FOREIGN KEY (customer_id, order_id) REFERENCES orders ON DELETE CASCADE
) /*hanse PARTITION BY HASH (customer_id) WITH (shards = 4)*/;

-- other key types
CREATE TABLE accounts (
    code    text PRIMARY KEY,
    owner   text,
    balance bigint NOT NULL,
    opened  timestamptz
) /*hanse PARTITION BY HASH (code) WITH (shards = 4)*/;

CREATE TABLE devices (
    device_id uuid PRIMARY KEY,
    label     text,
    mac       macaddr,
    ip        inet,
    payload   bytea
) /*hanse PARTITION BY HASH (device_id) WITH (shards = 4)*/;

CREATE TABLE readings (
    sensor int NOT NULL,
    day    date NOT NULL,
    value  numeric,
    level  smallint,
    PRIMARY KEY (sensor, day)
) /*hanse PARTITION BY HASH (sensor, day) WITH (shards = 4)*/;

CREATE TABLE employees (
    emp_id     int PRIMARY KEY,
    manager_id int,
    name       text NOT NULL,
    dept       text,
    salary     int,
    home       address
) /*hanse PARTITION BY HASH (emp_id) WITH (shards = 4)*/;

CREATE TABLE documents (
    doc_id int PRIMARY KEY,
    title  text NOT NULL,
    body   text,
    words  tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, coalesce(body, ''))) STORED
) /*hanse PARTITION BY HASH (doc_id) WITH (shards = 4)*/;

CREATE TABLE bookings (
    room   int NOT NULL,
    number int NOT NULL,
    span   int4range NOT NULL,
    period tsrange,
    PRIMARY KEY (room, number)
) /*hanse PARTITION BY HASH (room) WITH (shards = 4)*/;

CREATE TABLE tickets (
    ticket_id serial PRIMARY KEY,
    subject   text NOT NULL,
    priority  positive_int DEFAULT 3,
    opened    date DEFAULT '2026-01-01'
) /*hanse PARTITION BY HASH (ticket_id) WITH (shards = 4)*/;

CREATE TABLE nothing (
    id int PRIMARY KEY,
    v  text
) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;

CREATE TABLE messages (
    tenant text NOT NULL,
    id     int NOT NULL,
    body   text,
    PRIMARY KEY (tenant, id)
) /*hanse PARTITION BY HASH (tenant) WITH (shards = 4)*/;

-- by range of time, by list
CREATE TABLE events (
    event_id bigint NOT NULL,
    happened date NOT NULL,
    kind     text NOT NULL,
    amount   int,
    customer_id bigint,
    payload  jsonb,
    PRIMARY KEY (event_id, happened)
) PARTITION BY RANGE (happened);
CREATE TABLE events_old PARTITION OF events FOR VALUES FROM (MINVALUE) TO ('2025-01-01') /*hanse TABLESPACE g1*/;
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') /*hanse TABLESPACE g2*/;
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') /*hanse TABLESPACE g1*/;

CREATE TABLE stores (
    store_id int NOT NULL,
    region   text,
    name     text,
    opened   date,
    revenue  numeric(12,2)
) PARTITION BY LIST (region);
CREATE TABLE stores_north PARTITION OF stores FOR VALUES IN ('north') /*hanse TABLESPACE g1*/;
CREATE TABLE stores_south PARTITION OF stores FOR VALUES IN ('south', 'west') /*hanse TABLESPACE g2*/;
CREATE TABLE stores_rest PARTITION OF stores FOR VALUES IN ('east', NULL) /*hanse TABLESPACE g2*/;

-- single tables, one in each group
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text,
    since timestamptz DEFAULT '2026-01-01 00:00:00+00'
) /*hanse TABLESPACE g1*/;

CREATE TABLE notes (
    note_id     int PRIMARY KEY,
    customer_id bigint,
    body        text
) /*hanse TABLESPACE g2*/;

CREATE INDEX customers_country ON customers (country);
CREATE INDEX order_lines_product ON order_lines (product_id);
CREATE INDEX events_kind ON events (kind, happened);
CREATE INDEX documents_words ON documents USING gin (words);

CREATE VIEW active_customers AS
    SELECT customer_id, name, country, credit FROM customers WHERE active;

CREATE VIEW order_totals AS
    SELECT o.customer_id, o.order_id, o.status, count(l.line_no) AS lines, coalesce(sum(l.quantity * l.price), 0) AS amount
    FROM orders o LEFT JOIN order_lines l USING (customer_id, order_id)
    GROUP BY o.customer_id, o.order_id, o.status;

CREATE VIEW product_sales AS
    SELECT p.product_id, p.name, p.category, sum(l.quantity) AS sold
    FROM products p JOIN order_lines l USING (product_id)
    GROUP BY p.product_id, p.name, p.category;

CREATE VIEW country_credit AS
    SELECT n.name AS country, count(*) AS customers, sum(c.credit) AS credit
    FROM customers c JOIN countries n ON n.code = c.country GROUP BY n.name;

CREATE FUNCTION net_price(gross numeric, rate numeric DEFAULT 0.19) RETURNS numeric
    LANGUAGE sql IMMUTABLE AS $$ SELECT round(gross / (1 + rate), 2) $$;

CREATE FUNCTION initials(name text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    part text;
    result text := '';
BEGIN
    FOREACH part IN ARRAY string_to_array(name, ' ') LOOP
        result := result || upper(left(part, 1));
    END LOOP;
    RETURN result;
END;
$$;

CREATE FUNCTION halves(n int) RETURNS SETOF int LANGUAGE sql IMMUTABLE AS $$
    SELECT n / 2 UNION ALL SELECT n - n / 2
$$;

CREATE FUNCTION fail_with(code text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'failed on purpose' USING ERRCODE = code;
END;
$$;

ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_messages ON messages FOR ALL TO corpus_tenant, corpus_reader USING (tenant = current_user::text);

GRANT USAGE ON SCHEMA {schema} TO corpus_reader, corpus_tenant;
GRANT SELECT ON customers, orders, products, countries, messages, active_customers, settings TO corpus_reader;
GRANT SELECT (emp_id, name) ON employees TO corpus_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON messages TO corpus_tenant;
