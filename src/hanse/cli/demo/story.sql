-- What `hanse demo` runs, in this order. A chapter is a paragraph: its title, what there is to see, its statements. A
-- statement ends with ";" at the end of a line. Running all of it twice gives the same answers.

-- Point read
-- The whole sharding key is given: one group is asked, and its bytes are passed on.
SELECT year, month, day, origin, dest, tailnum, dep_delay FROM flights
WHERE carrier = 'UA' AND flight = 1545 AND time_hour = '2013-01-01 10:00+00';

-- Aggregate over all shards
-- Each group counts and adds up its own rows; one statement over their few partial rows finishes.
SELECT count(*) AS flights, count(dep_time) AS flown, avg(dep_delay)::numeric(6, 2) AS delay, max(dep_delay) AS worst
FROM flights;

-- Join with a reference table, grouped
-- Every group has all airlines, so each joins where its flights lie.
SELECT a.name, count(*) AS flights, round(avg(f.arr_delay), 1) AS arrival_delay
FROM flights f JOIN airlines a USING (carrier)
GROUP BY a.name ORDER BY arrival_delay DESC LIMIT 5;

-- Top-n
-- Each group sends its five worst, already sorted; the gateway merges them.
SELECT month, day, carrier, flight, origin, dest, dep_delay FROM flights
ORDER BY dep_delay DESC NULLS LAST, carrier, flight LIMIT 5;

-- One range of time
-- The storm Nemo, 8 and 9 February 2013. Three of the four shards of weather cannot have these rows, and are not asked.
SELECT origin, round(max(wind_speed)::numeric, 1) AS wind, min(visib) AS visibility, round(sum(precip)::numeric, 2) AS rain
FROM weather WHERE time_hour >= '2013-02-08 00:00-05' AND time_hour < '2013-02-10 00:00-05'
GROUP BY origin ORDER BY origin;

-- Join off the key
-- Flights and weather are sharded by different columns, and lie in different groups. The rows and columns that are
-- needed are copied into the workspace, where PostgreSQL runs the text as it was written.
SELECT w.visib < 1 AS fog, count(*) AS flights, round(avg(f.dep_delay), 1) AS delay,
       round(100.0 * count(*) FILTER (WHERE f.dep_time IS NULL) / count(*), 1) AS cancelled_percent
FROM flights f JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
WHERE f.month = 2
GROUP BY fog ORDER BY fog;

-- CTE and window function
-- The busiest route of each airport.
WITH route AS (SELECT origin, dest, count(*) AS flights FROM flights GROUP BY origin, dest)
SELECT origin, name AS destination, flights
FROM (SELECT origin, dest, flights, rank() OVER (PARTITION BY origin ORDER BY flights DESC) AS place FROM route) ranked
JOIN airports ON faa = dest
WHERE place = 1 ORDER BY origin;

-- A median
-- It cannot be put together from the groups' medians: all values are needed in one place.
SELECT percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY arr_delay) AS arrival_delay_p50_p90_p99
FROM flights;

-- What is not there
-- Destinations that the table of airports does not know.
SELECT f.dest, count(*) AS flights FROM flights f
WHERE NOT EXISTS (SELECT FROM airports a WHERE a.faa = f.dest)
GROUP BY f.dest ORDER BY flights DESC;

-- A multi-row INSERT, split by shard, and an upsert
-- One statement for the client, one for each group; all rows or none. The second meets rows that are there already.
DELETE FROM watches;
INSERT INTO watches (carrier, flight, email) VALUES
    ('UA', 1545, 'ada@example.org'), ('UA', 1714, 'ada@example.org'), ('AA', 1141, 'bob@example.org'),
    ('B6', 725, 'eve@example.org'), ('DL', 461, 'eve@example.org');
INSERT INTO watches (carrier, flight, email) VALUES
    ('UA', 1545, 'ada@example.org'), ('B6', 725, 'eve@example.org'), ('VX', 11, 'bob@example.org')
ON CONFLICT (carrier, flight, email) DO UPDATE SET alerts = watches.alerts + 1
RETURNING carrier, flight, email, alerts;

-- Co-located join
-- Both tables have the same key and the same shards: each group joins its own.
SELECT w.email, f.carrier, f.flight, count(*) AS departures, max(f.dep_delay) AS worst_delay
FROM watches w JOIN flights f ON f.carrier = w.carrier AND f.flight = w.flight
GROUP BY w.email, f.carrier, f.flight ORDER BY worst_delay DESC NULLS LAST LIMIT 3;

-- A transaction over several groups
-- Two flights that leave Newark in the same hour exchange their aircraft. Both rows change, or neither: PREPARE in one
-- group, and the COMMIT of the other is the decision.
BEGIN;
UPDATE flights SET tailnum = 'N75435'
WHERE carrier = 'UA' AND flight = 1124 AND time_hour = '2013-01-01 11:00+00' RETURNING flight, dest, tailnum;
UPDATE flights SET tailnum = 'N53441'
WHERE carrier = 'UA' AND flight = 1701 AND time_hour = '2013-01-01 11:00+00' RETURNING flight, dest, tailnum;
COMMIT;

-- An UPDATE of many rows in all groups, taken back
-- One transaction, over as many groups as it takes, and ROLLBACK means all of them.
BEGIN;
UPDATE flights SET dep_delay = 0 WHERE dep_delay < 0;
SELECT count(*) AS early FROM flights WHERE dep_delay < 0;
ROLLBACK;
SELECT count(*) AS early FROM flights WHERE dep_delay < 0;
