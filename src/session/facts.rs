//! Reading a server's facts: which statements in one round trip, and what their answers say.

mod channels;
mod parse;
mod recorded;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    MissingGrant, ResultSet, Session, SessionError,
    dialect::{ASK_PROFILE, Part, Profile},
    grants::lacks_privilege,
};
use crate::model::facts::ServerFacts;

#[doc(hidden)]
pub use self::recorded::parse_recorded;

/// One finished reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What was read.
    pub facts: ServerFacts,
    /// Parts that could not be read for want of a privilege; their fields are `None`.
    pub lacking: Vec<MissingGrant>,
}

/// Why a reading failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The session failed, or the server refused a statement.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A part without which there are no facts may not be read.
    #[error(transparent)]
    Grant(#[from] MissingGrant),
}

/// Knows what a server can be asked; kept across sessions of the same server, so that a fresh session needs one
/// round trip after its login.
#[derive(Debug, Clone, Default)]
pub struct FactsReader {
    profile: Option<Profile>,
    lacking: Vec<MissingGrant>,
    user: String,
}

/// Unknown system variable, unknown table: the profile no longer fits.
fn profile_is_stale(error: &SessionError) -> bool {
    matches!(error.code(), Some(1193 | 1146 | 1109))
}

impl FactsReader {
    /// A reader for sessions of `user` (named in what it says about grants).
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), ..Self::default() }
    }

    /// What this server can be asked, when it was found out.
    pub(crate) fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// Finds out what the server can be asked, if that is not known for its version.
    pub(crate) async fn prepare(
        &mut self,
        session: &mut Session,
        within: Duration,
    ) -> Result<(), SessionError> {
        let known = |p: &Profile| p.flavor == session.flavor() && &p.version == session.version();
        if !self.profile.as_ref().is_some_and(known) {
            let sets = session.run(ASK_PROFILE, within).await?;
            let nothing = || SessionError::Protocol("the server gave no answer".to_owned());
            let answer = sets.into_iter().next().ok_or_else(nothing)?;
            self.profile = Some(Profile::new(session.flavor(), session.version().clone(), &answer));
            self.lacking.clear();
        }
        Ok(())
    }

    /// Forgets what was found out: at the next reading everything is asked again.
    pub fn forget(&mut self) {
        self.profile = None;
    }

    /// The statements of a light reading, to be put behind others in one round trip; empty before [`Self::prepare`].
    pub(crate) fn sql(&self) -> String {
        let Some(profile) = &self.profile else { return String::new() };
        join(&profile.statements(false))
    }

    /// Reads the answers to [`Self::sql`].
    pub(crate) fn parse(&self, sets: &[ResultSet]) -> Result<ServerFacts, SessionError> {
        let Some(profile) = &self.profile else {
            return Err(SessionError::Protocol("facts without a profile".to_owned()));
        };
        parse::facts(profile, &profile.statements(false), sets)
    }

    /// Reads the facts, with `inventory` the replicas, dump threads and durability too. One round trip where the
    /// server is known; a part that may not be read is left out and named.
    pub async fn read(
        &mut self,
        session: &mut Session,
        inventory: bool,
        within: Duration,
    ) -> Result<Reading, ReadError> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut renewed = false;
        if inventory {
            // A plug-in may have been loaded since, a privilege granted.
            self.forget();
        }
        loop {
            self.prepare(session, left()).await?;
            let Some(profile) = &mut self.profile else { continue };
            let statements = profile.statements(inventory);
            let answer = session.run_all(&join(&statements), left()).await?;
            let Some(error) = answer.error else {
                let facts = parse::facts(profile, &statements, &answer.sets)?;
                return Ok(Reading { facts, lacking: self.lacking.clone() });
            };
            let Some((part, sql)) = statements.get(answer.sets.len()) else { return Err(error.into()) };
            if lacks_privilege(&error) {
                let missing = MissingGrant::of(profile.flavor, *part, sql, &error, &self.user);
                if matches!(part, Part::Variables | Part::Status | Part::Channels) {
                    return Err(missing.into());
                }
                profile.without.push(*part);
                if *part == Part::MayProcess {
                    profile.without.push(Part::DumpThreads);
                }
                self.lacking.push(missing);
            } else if profile_is_stale(&error) && !renewed {
                renewed = true;
                self.profile = None;
            } else {
                return Err(error.into());
            }
        }
    }
}

fn join(statements: &[(Part, String)]) -> String {
    statements.iter().map(|(_, sql)| sql.as_str()).collect::<Vec<_>>().join("; ")
}
