-- What the account `quorate` may do on MariaDB: exactly the grants that the README names.
-- The rig gives no others, so every scenario shows that these suffice.
GRANT SLAVE MONITOR, BINLOG MONITOR, REPLICATION SLAVE, PROCESS, RELOAD ON *.* TO 'quorate'@'%';
GRANT REPLICATION MASTER ADMIN, REPLICATION SLAVE ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN ON *.* TO 'quorate'@'%';
GRANT ALL ON quorate.* TO 'quorate'@'%';
