//! Process 1 of a session.
