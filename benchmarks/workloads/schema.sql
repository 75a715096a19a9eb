-- Tables of the benchmark. distribute.sql spreads them over a cluster; one PostgreSQL takes them as they are.
CREATE TABLE accounts (aid bigint PRIMARY KEY, bid int NOT NULL, balance bigint NOT NULL, filler text NOT NULL);
CREATE TABLE batch_rows (id bigint PRIMARY KEY, grp int NOT NULL, payload text);
CREATE TABLE customers (customer_id bigint PRIMARY KEY, region int NOT NULL, name text NOT NULL);
CREATE TABLE orders (
    customer_id bigint NOT NULL, order_id bigint NOT NULL, status int NOT NULL, placed_on date NOT NULL,
    PRIMARY KEY (customer_id, order_id)
);
CREATE TABLE order_lines (
    customer_id bigint NOT NULL, order_id bigint NOT NULL, line_no int NOT NULL,
    product_id int NOT NULL, quantity int NOT NULL, price numeric(10,2) NOT NULL,
    PRIMARY KEY (customer_id, order_id, line_no)
);
CREATE TABLE products (product_id int PRIMARY KEY, category int NOT NULL, name text NOT NULL);
CREATE TABLE shipments (shipment_id bigint PRIMARY KEY, order_id bigint NOT NULL, carrier int NOT NULL, weight int NOT NULL);
-- pgbench's own, without the vacuuming of `pgbench -i`
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
