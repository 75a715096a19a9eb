-- The tables of `hanse demo`, in a schema of their own. Every statement is ordinary PostgreSQL but for two options:
-- WITH (distribution = 'reference') and WITH (shards = n).

-- Small tables that many queries join with: a full copy in every group.
CREATE TABLE airlines (
    carrier text PRIMARY KEY,
    name text NOT NULL
) WITH (distribution = 'reference');

CREATE TABLE airports (
    faa text PRIMARY KEY,
    name text NOT NULL,
    lat float8 NOT NULL,
    lon float8 NOT NULL,
    alt int NOT NULL,
    tz int NOT NULL,
    dst text NOT NULL,
    tzone text
) WITH (distribution = 'reference');

CREATE TABLE planes (
    tailnum text PRIMARY KEY,
    year int,
    type text NOT NULL,
    manufacturer text NOT NULL,
    model text NOT NULL,
    engines int NOT NULL,
    seats int NOT NULL,
    speed int,
    engine text NOT NULL
) WITH (distribution = 'reference');

-- The big table: HASH of the flight number spreads it evenly, and everything about one flight number lies together.
CREATE TABLE flights (
    year int NOT NULL,
    month int NOT NULL,
    day int NOT NULL,
    dep_time int,
    sched_dep_time int NOT NULL,
    dep_delay int,
    arr_time int,
    sched_arr_time int NOT NULL,
    arr_delay int,
    carrier text NOT NULL REFERENCES airlines,
    flight int NOT NULL,
    tailnum text,
    origin text NOT NULL REFERENCES airports,
    dest text NOT NULL,
    air_time int,
    distance int NOT NULL,
    hour int NOT NULL,
    minute int NOT NULL,
    time_hour timestamptz NOT NULL,
    PRIMARY KEY (carrier, flight, time_hour)
) PARTITION BY HASH (carrier, flight) WITH (shards = 8);

-- Who watches which flight. The same key as flights, so equal keys lie in the same group: the tables are co-located.
CREATE TABLE watches (
    carrier text NOT NULL,
    flight int NOT NULL,
    email text NOT NULL,
    alerts int NOT NULL DEFAULT 0,
    PRIMARY KEY (carrier, flight, email)
) PARTITION BY HASH (carrier, flight) WITH (shards = 8);

-- By RANGE of time: a quarter of a year is a shard. Without TABLESPACE they are spread over the groups in turn.
CREATE TABLE weather (
    origin text NOT NULL REFERENCES airports,
    year int NOT NULL,
    month int NOT NULL,
    day int NOT NULL,
    hour int NOT NULL,
    temp float8,
    dewp float8,
    humid float8,
    wind_dir int,
    wind_speed float8,
    wind_gust float8,
    precip float8,
    pressure float8,
    visib float8,
    time_hour timestamptz NOT NULL,
    PRIMARY KEY (origin, time_hour)
) PARTITION BY RANGE (time_hour);

CREATE TABLE weather_2013q1 PARTITION OF weather FOR VALUES FROM ('2013-01-01 00:00+00') TO ('2013-04-01 00:00+00');
CREATE TABLE weather_2013q2 PARTITION OF weather FOR VALUES FROM ('2013-04-01 00:00+00') TO ('2013-07-01 00:00+00');
CREATE TABLE weather_2013q3 PARTITION OF weather FOR VALUES FROM ('2013-07-01 00:00+00') TO ('2013-10-01 00:00+00');
CREATE TABLE weather_2013q4 PARTITION OF weather FOR VALUES FROM ('2013-10-01 00:00+00') TO ('2014-01-01 00:00+00');
