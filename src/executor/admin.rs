//! MySQL's administrative port: a way in that `max_connections` does not close (MySQL 8.4 manual, 7.1.12.1). Used for
//! the executor's session where the server has one and the account may (SERVICE_CONNECTION_ADMIN); else the ordinary
//! port serves.
//!
//! MariaDB's `extra_port` is left alone: its few connections (`extra_max_connections`, 1 unless set) are for people.

use std::{net::IpAddr, time::Duration};

use crate::{
    model::{address::Address, server::Flavor},
    session::{Account, Session, SessionOptions},
};

/// Bound of asking for it, and of seeing who answers there.
const WITHIN: Duration = Duration::from_secs(1);

/// The same server's administrative port, with a session on it, if one can be had.
pub(super) async fn find(
    ordinary: &mut Session,
    address: &Address,
    account: &Account,
    options: &SessionOptions,
) -> Option<(Address, Session)> {
    if ordinary.flavor() != Flavor::MySql {
        return None;
    }
    let sets = ordinary.run("SELECT @@admin_address AS host, @@admin_port AS port", WITHIN).await.ok()?;
    let row = sets.first()?.first()?;
    let admin = dialled(row.filled("host")?, row.number("port")?, address)?;
    let opened = Session::open(&admin, account, options).await;
    let mut session =
        opened.map_err(|error| tracing::debug!(%admin, %error, "no administrative port")).ok()?;
    // An address of a private network may be somebody else's here.
    let (known, met) = (identity(ordinary).await?, identity(&mut session).await?);
    (known == met).then_some((admin, session))
}

async fn identity(session: &mut Session) -> Option<String> {
    let sets = session.run("SELECT @@server_uuid AS uuid", WITHIN).await.ok()?;
    sets.first()?.first()?.filled("uuid").map(str::to_owned)
}

/// Where it is dialled: at the address it listens on, unless that is loopback and the server is elsewhere.
fn dialled(host: &str, port: u16, address: &Address) -> Option<Address> {
    let loopback = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    Address::told(host, port).filter(|_| !loopback(host) || loopback(&address.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_dialled_only_where_the_server_is_here() {
        let (far, here) = (Address::new("db1", 3306), Address::new("127.0.0.1", 3306));
        assert_eq!(dialled("127.0.0.1", 33062, &far), None);
        assert_eq!(dialled("::1", 33062, &far), None);
        assert_eq!(dialled("127.0.0.1", 33062, &here), Some(Address::new("127.0.0.1", 33062)));
        assert_eq!(dialled("10.9.0.4", 33062, &far), Some(Address::new("10.9.0.4", 33062)));
    }
}
