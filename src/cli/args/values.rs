//! Words that options and arguments take.

use clap::ValueEnum;

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Rule that an operator waives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Waive {
    /// Although a block stands since the last recovery.
    Block,
    /// Although recoveries are disabled, or in downtime or maintenance.
    Disabled,
    /// Without a majority's verdict: the primary may be alive, it is fenced first, or nothing is done.
    Verdict,
    /// Accept that transactions are lost.
    Loss,
}

/// Preference as candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// Chosen before every other where it is complete enough.
    Must,
    /// Chosen before neutral ones.
    Prefer,
    /// No preference.
    Neutral,
    /// Chosen only when nobody else is there.
    #[value(alias = "prefer_not")]
    PreferNot,
    /// Never chosen.
    #[value(alias = "must_not")]
    MustNot,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// Allow.
    On,
    /// Forbid.
    Off,
}
