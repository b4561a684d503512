//! Writes `schemas/events`: the JSON Schema of every event in its current version.

use std::fs;

use anyhow::{Context, Result};

/// Writes every schema, and removes files of events that there are none of.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn write() -> Result<()> {
    let folder = crate::root().join("schemas/events");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let schemas = lmao_events::schema::all();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let known = path.file_name().is_some_and(|name| schemas.iter().any(|(file, _)| name == file.as_str()));
        if !known {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    for (file, schema) in &schemas {
        let path = folder.join(file);
        let text = serde_json::to_string_pretty(schema)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{} schemas in {}", schemas.len(), folder.display());
    Ok(())
}
