//! What no single crate can test: the shape of the workspace, and the running system as its users see it.

mod crash;
mod serve;
mod support;
mod tidy;
