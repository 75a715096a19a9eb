-- The tables do not lie together: rows must travel.
SELECT s.carrier, count(*), sum(s.weight)
FROM orders o JOIN shipments s ON s.order_id = o.order_id
WHERE o.status < 4
GROUP BY s.carrier;
