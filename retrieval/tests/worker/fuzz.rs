//! later
use crate::support::World;
#[derive(Default)]
pub(crate) struct Options;
impl Options {
    pub(crate) fn parse(_: &[String]) -> Self {
        Self
    }
}
pub(crate) async fn run(_: &World, _: &Options) {}
