//! Progress for people: bars on a terminal, a line now and then elsewhere.

use std::{
    collections::HashMap,
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lmao_adapters::models::Progress;

use crate::output::note;

const TICK: Duration = Duration::from_millis(250);

/// A bar of so many steps on standard error; invisible where that is no terminal.
pub(crate) fn bar(steps: Option<u64>, template: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(steps, target);
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK);
    bar
}

/// How far obtaining the embedding model is.
#[derive(Debug, Default)]
pub(crate) struct ModelProgress {
    bars: MultiProgress,
    of: Mutex<HashMap<String, (ProgressBar, u64)>>,
}

impl Progress for ModelProgress {
    fn update(&self, what: &str, done: u64, total: Option<u64>) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let (bar, told) = of.entry(what.to_owned()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new(total.unwrap_or(0)));
            let template = "obtaining {msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what.to_owned());
            (bar, 0)
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if !std::io::stderr().is_terminal() {
            tell(what, done, total, told);
        }
        if total.is_some_and(|total| done >= total) {
            bar.finish_and_clear();
            of.remove(what);
        }
    }
}

/// A line for every quarter, for those who read a file.
fn tell(what: &str, done: u64, total: Option<u64>, told: &mut u64) {
    let Some(total) = total.filter(|total| *total > 0) else { return };
    let quarter = done * 4 / total;
    if quarter > *told {
        *told = quarter;
        note(format_args!("obtaining {what}: {} %", quarter * 25));
    }
}
