-- What the account `quorate` may do on MySQL: exactly the grants that the README names.
-- The rig gives no others, so every scenario shows that these suffice.
GRANT REPLICATION CLIENT, REPLICATION SLAVE, PROCESS, RELOAD ON *.* TO 'quorate'@'%';
GRANT REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN ON *.* TO 'quorate'@'%';
GRANT SELECT ON performance_schema.* TO 'quorate'@'%';
GRANT ALL ON quorate.* TO 'quorate'@'%';
