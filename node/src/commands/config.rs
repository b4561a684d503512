//! `lmao config`: the effective configuration, and where it comes from.

use serde_json::{Map, Value, json};

use super::Invocation;
use crate::{exit::Stop, output::Table};

/// Prints every key.
///
/// # Errors
/// When the configuration makes no sense.
pub(crate) fn run(invocation: &Invocation) -> Result<(), Stop> {
    let loaded = invocation.configuration(None)?;
    let entries = loaded.entries();
    if invocation.out.is_json() {
        let entries = entries.into_iter().map(|(key, value)| {
            let origin = loaded.origins.get(&key).cloned();
            (key, json!({ "value": value, "from": origin }))
        });
        return invocation.out.json(&Value::Object(entries.collect::<Map<_, _>>()));
    }
    let mut table = Table::new(["KEY", "VALUE", "FROM"]);
    for (key, value) in entries {
        let origin = loaded.origins.get(&key).cloned().unwrap_or_default();
        table.row([key, value.unwrap_or_else(|| "-".to_owned()), origin]);
    }
    invocation.out.table(&table)
}
