-- Partial aggregates of every shard, finished over 100 groups.
SELECT bid, count(*), sum(balance), avg(balance) FROM accounts GROUP BY bid;
