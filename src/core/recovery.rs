//! The life of a recovery: state and event to state and effects.
