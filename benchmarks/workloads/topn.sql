-- The ten largest of every shard, merged.
SELECT aid, balance FROM accounts ORDER BY balance DESC, aid LIMIT 10;
