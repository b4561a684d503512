//! What the read models on SQLite and Postgres share: from events to rows, cursors, and the digest of the tables. Knows no
//! driver's SQL; a test holds that both make the same content of one history.

pub(crate) mod digest;
pub(crate) mod fold;
pub(crate) mod page;

use lmao_events::Category;

/// Which categories a read model needs opened: workflows and claims have no rows.
pub(crate) const fn wants(category: Category) -> bool {
    !matches!(category, Category::Workflow | Category::Claim)
}

/// Why a commit whose rows the tables refuse does not fit.
pub(crate) fn misfit(error: &sqlx::Error) -> String {
    let said = error.as_database_error().map_or("", |error| error.message());
    format!("its rows break a rule of the tables, or refer to rows that are missing or set aside ({said})")
}
