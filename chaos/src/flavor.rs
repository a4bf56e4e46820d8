//! The two families of servers the rig runs. What differs between them in SQL lives in `sql/dialect.rs`.

use serde::Serialize;
use std::fmt;

/// A family of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL 9.x
    Mysql,
    /// MariaDB 10.11
    Mariadb,
}

impl Flavor {
    /// Both, in the order in which they are run.
    pub const ALL: [Flavor; 2] = [Flavor::Mysql, Flavor::Mariadb];

    /// The name used on the command line and in records.
    pub fn name(self) -> &'static str {
        match self {
            Flavor::Mysql => "mysql",
            Flavor::Mariadb => "mariadb",
        }
    }

    /// The server program.
    pub fn program(self) -> &'static str {
        match self {
            Flavor::Mysql => "mysqld",
            Flavor::Mariadb => "mariadbd",
        }
    }

    /// The variable that names a server program to use instead of the installed one.
    pub fn variable(self) -> &'static str {
        match self {
            Flavor::Mysql => "QUORATE_MYSQLD",
            Flavor::Mariadb => "QUORATE_MARIADBD",
        }
    }

    /// The grants of the account `quorate`, as documented.
    pub fn grants(self) -> &'static str {
        match self {
            Flavor::Mysql => include_str!("../grants/mysql.sql"),
            Flavor::Mariadb => include_str!("../grants/mariadb.sql"),
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
