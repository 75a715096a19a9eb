-- First content of a fresh instance, database postgres. Single-user mode: a statement ends with ";" and an empty line.
-- Placeholders are psql's, replaced by bootstrap.py.

-- The bootstrap superuser exists already (initdb made it); only Hanse's own processes know its password.
ALTER ROLE hanse_system WITH SUPERUSER LOGIN PASSWORD :'system_verifier';

-- The user's own role. A verifier is stored as it is: the same salt on every instance, so one proof opens them all.
CREATE ROLE :"user" WITH SUPERUSER CREATEDB CREATEROLE LOGIN PASSWORD :'user_verifier';

-- "$user", first in PostgreSQL's default path, would be schema hanse, which is Hanse's own.
ALTER ROLE :"user" SET search_path = public;

CREATE DATABASE :"database" OWNER :"user";
