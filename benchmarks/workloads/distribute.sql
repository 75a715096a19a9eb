-- Orders and their lines lie with their customer; shipments do not lie with their order.
SELECT create_distributed_table('accounts', 'aid');
SELECT create_distributed_table('batch_rows', 'id');
SELECT create_distributed_table('customers', 'customer_id');
SELECT create_distributed_table('orders', 'customer_id', colocate_with => 'customers');
SELECT create_distributed_table('order_lines', 'customer_id', colocate_with => 'customers');
SELECT create_reference_table('products');
SELECT create_distributed_table('shipments', 'shipment_id');
SELECT create_distributed_table('pgbench_accounts', 'aid');
SELECT create_distributed_table('pgbench_branches', 'bid');
SELECT create_distributed_table('pgbench_tellers', 'tid');
SELECT create_distributed_table('pgbench_history', 'aid', colocate_with => 'pgbench_accounts');
