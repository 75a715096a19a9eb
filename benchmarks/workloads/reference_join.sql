-- The small table is in every group.
SELECT p.category, count(*), sum(l.quantity * l.price)
FROM order_lines l JOIN products p ON p.product_id = l.product_id
GROUP BY p.category;
