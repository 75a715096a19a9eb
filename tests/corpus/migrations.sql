-- Schema changes and queries in one transaction, as migrations of web frameworks make them. Each block leaves nothing.

-- name: add_column_and_fill
CREATE TABLE m_a (id int PRIMARY KEY, k int, e text NOT NULL) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
CREATE TABLE m_b (id int PRIMARY KEY, w text) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO m_a SELECT g, g % 7, 'e' || g FROM generate_series(1, 50) g;
INSERT INTO m_b SELECT g, 'w' || g FROM generate_series(1, 20) g;
BEGIN;
ALTER TABLE m_a ADD COLUMN n int DEFAULT 3;
SELECT sum(n), count(*) FROM m_a;
SELECT count(*), sum(n) FROM m_a JOIN m_b ON m_a.k = m_b.id;
UPDATE m_a SET n = (SELECT id FROM m_b ORDER BY id DESC LIMIT 1) WHERE k > 3;
SELECT n, count(*) FROM m_a GROUP BY n;
INSERT INTO m_b SELECT id + 100, e FROM m_a WHERE k = 1;
SELECT count(*) FROM m_a JOIN m_b ON m_b.id = m_a.id + 100;
ALTER TABLE m_a ALTER COLUMN n SET NOT NULL;
COMMIT;
SELECT n, count(*) FROM m_a GROUP BY n;
DROP TABLE m_a, m_b;
-- name: new_type_in_transaction
CREATE TABLE m_c (id int PRIMARY KEY, k int) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO m_c SELECT g, g % 5 FROM generate_series(1, 30) g;
BEGIN;
CREATE TYPE m_level AS ENUM ('low', 'high');
ALTER TABLE m_c ADD COLUMN level m_level NOT NULL DEFAULT 'low';
UPDATE m_c SET level = 'high' WHERE k = 3;
SELECT level, count(*) FROM m_c GROUP BY level;
SELECT min(level), max(level), array_agg(level::text ORDER BY id) FROM m_c WHERE id < 6;
SELECT a.level, count(*) FROM m_c a JOIN m_c b ON a.id = b.k GROUP BY a.level;
COMMIT;
SELECT level, count(*) FROM m_c GROUP BY level;
DROP TABLE m_c;
DROP TYPE m_level;
-- name: views_in_transaction
BEGIN;
CREATE VIEW m_v AS SELECT o.order_id, e.name FROM orders o JOIN employees e ON e.emp_id = o.order_id % 20;
SELECT count(*) FROM m_v;
CREATE VIEW m_w AS SELECT name, count(*) AS n FROM m_v GROUP BY name;
SELECT * FROM m_w WHERE n > 2;
CREATE MATERIALIZED VIEW m_m AS SELECT name, n FROM m_w;
SELECT count(*), sum(n) FROM m_m;
SELECT m.name, c.customer_id FROM m_m m JOIN customers c ON c.customer_id = m.n;
ROLLBACK;
-- error: 42P01
SELECT count(*) FROM m_v;
-- name: error_and_savepoint
BEGIN;
CREATE TABLE m_d (id int PRIMARY KEY, k int) /*hanse PARTITION BY HASH (id) WITH (shards = 4)*/;
INSERT INTO m_d SELECT g, g % 3 FROM generate_series(1, 9) g;
SAVEPOINT s;
-- error: 22012
SELECT sum(1 / (a.k - a.k)) FROM m_d a JOIN m_d b ON a.id = b.k;
-- error: 25P02
SELECT count(*) FROM m_d;
ROLLBACK TO s;
SELECT count(*) FROM m_d a JOIN m_d b ON a.id = b.k;
ALTER TABLE m_d ADD COLUMN t text DEFAULT 'x';
SELECT t, count(*) FROM m_d a JOIN m_d b USING (t) GROUP BY t;
ROLLBACK TO s;
-- error: 42703
SELECT t FROM m_d;
ROLLBACK;
-- name: created_referenced_filled
BEGIN;
CREATE TABLE m_kind (id int PRIMARY KEY, name text UNIQUE) /*hanse WITH (distribution = 'reference')*/;
INSERT INTO m_kind SELECT row_number() OVER (ORDER BY kind), kind FROM (SELECT DISTINCT kind FROM events) k;
ALTER TABLE events ADD COLUMN kind_id int REFERENCES m_kind;
UPDATE events SET kind_id = m.id FROM m_kind m WHERE m.name = events.kind;
SELECT m.name, count(*) FROM events e JOIN m_kind m ON m.id = e.kind_id GROUP BY m.name;
SELECT count(*) FROM events a JOIN customers c ON c.customer_id = a.kind_id;
ROLLBACK;
-- name: default_partition_elsewhere
CREATE TABLE m_def (id int, v text) PARTITION BY LIST (id);
CREATE TABLE m_def_1 PARTITION OF m_def FOR VALUES IN (1, 2) /*hanse TABLESPACE g1*/;
CREATE TABLE m_def_rest PARTITION OF m_def DEFAULT /*hanse TABLESPACE g2*/;
INSERT INTO m_def VALUES (1, 'a'), (3, 'c'), (NULL, 'd');
-- error: 23514
CREATE TABLE m_def_3 PARTITION OF m_def FOR VALUES IN (3) /*hanse TABLESPACE g1*/;
CREATE TABLE m_def_4 PARTITION OF m_def FOR VALUES IN (4) /*hanse TABLESPACE g1*/;
INSERT INTO m_def VALUES (4, 'e');
SELECT * FROM m_def_4;
DROP TABLE m_def_4;
INSERT INTO m_def VALUES (4, 'f');
SELECT * FROM m_def_rest;
ALTER TABLE m_def DETACH PARTITION m_def_1;
INSERT INTO m_def VALUES (1, 'g');
UPDATE m_def SET id = 9 WHERE id = 1;
SELECT * FROM m_def;
DROP TABLE m_def, m_def_1;
