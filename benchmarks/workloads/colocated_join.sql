-- Both tables lie together by customer.
SELECT o.status, count(*), sum(l.quantity * l.price)
FROM orders o JOIN order_lines l ON l.customer_id = o.customer_id AND l.order_id = o.order_id
GROUP BY o.status;
