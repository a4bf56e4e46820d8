//! The table of problems.
