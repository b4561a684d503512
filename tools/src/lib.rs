//! Tools: what there is, whether parameters fit, and running one within its limits.
//!
//! A tool is one file and one [`Tool`]; the [`Registry`] lists, checks and runs them and knows nothing of what they do. When
//! a tool runs, and what becomes of its outcome, is the tool call's business (`lmao-events`). Nothing here names a driver.

mod calculator;
mod knowledge;
mod registry;
mod remote;
mod tool;

pub use calculator::Calculator;
pub use knowledge::Knowledge;
pub use registry::{Registry, ToolRun, check_schema};
pub use remote::Remote;
pub use tool::{Call, Tool, bad_parameters};
