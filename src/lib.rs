//! Quorate: a failover cluster for MySQL and MariaDB replication.

