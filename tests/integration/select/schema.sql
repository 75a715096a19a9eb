-- Run in every database; what stands in braces is how the database partitions its tables.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE users (id bigint PRIMARY KEY, name text, age int, city text, score numeric(8,2), ratio double precision,
    active boolean, born date, seen timestamptz, feeling mood, tags text[], code char(4)) {by_id};
CREATE TABLE orders (user_id bigint, order_id int, amount numeric(10,2), qty smallint, note varchar(20), placed timestamp,
    country_id int, rating real, big bigint, PRIMARY KEY (user_id, order_id)) {by_user};
CREATE TABLE pairs (a int, b int, v int) {by_pair};
CREATE TABLE events (kind text, at date, n int) {by_at};
CREATE TABLE nothing (k int, v numeric) {by_k};
CREATE TABLE countries (id int PRIMARY KEY, name text, continent text);
CREATE TABLE settings (name text, value int);
CREATE TABLE labels (id int, label text);
{partitions}
CREATE VIEW active_users AS SELECT id, name, city FROM users WHERE active;
CREATE VIEW user_totals AS SELECT user_id, sum(amount) AS total, count(*) AS n FROM orders GROUP BY user_id;
CREATE VIEW by_city AS SELECT city, count(*) AS n FROM users GROUP BY city;
CREATE VIEW country_names AS SELECT id, name FROM countries;
CREATE FUNCTION add_one(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + 1';
CREATE FUNCTION count_users() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';
CREATE FUNCTION country_name(i int) RETURNS text LANGUAGE plpgsql STABLE AS
    'DECLARE found text; BEGIN SELECT c.name INTO found FROM countries c WHERE c.id = i; RETURN found; END';
CREATE FUNCTION spy(t text) RETURNS bigint LANGUAGE plpgsql AS
    'DECLARE r bigint; BEGIN EXECUTE ''SELECT count(*) FROM '' || t INTO r; RETURN r; END';
CREATE FUNCTION note_it() RETURNS int LANGUAGE sql AS 'INSERT INTO settings VALUES (''x'', 1) RETURNING 1';
