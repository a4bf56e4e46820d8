//! Barriers and resumption, driven event by event.
