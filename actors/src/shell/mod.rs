//! The one generic actor that runs every decider.

mod actor;
mod commit;
mod directory;
mod effects;
mod loaded;
mod supervisor;

pub(crate) use directory::{Admission, Directory, PARKED, Release, Undelivered};
pub(crate) use loaded::{LoadError, Loaded};
pub(crate) use supervisor::Supervisor;
