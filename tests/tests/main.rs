//! What no single crate can test: the shape of the workspace, and the running system as its users see it.

mod bad_input;
mod crash;
mod damage;
mod files;
mod main_job;
mod serve;
mod support;
mod tidy;
