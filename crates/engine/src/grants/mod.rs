//! Grants: one thing more for one session, for a while and a number of uses.
//!
//! `Desk` is where a held run's commands about grants arrive; `GrantBook` holds those of its
//! working session and is asked whenever one would be used. What is over is never honoured, whether
//! its end was noticed or not: time is looked at on use. Grants live in the process that holds the
//! run and in the session's own namespaces, so the death of either ends them. Must never know how a
//! path gets into a session.

mod ask;
mod book;
mod desk;
mod door;
mod queries;
mod view;
mod wishes;

#[cfg(test)]
mod tests;

pub(crate) use ask::is_about_grants;
pub(crate) use book::GrantBook;
pub(crate) use desk::{Desk, no_session};
pub(crate) use door::{GrantedBook, GrantedDecide};
pub(crate) use view::of as views;
pub use view::{GrantState, GrantView};
