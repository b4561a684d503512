//! The digest of the content.

use std::borrow::Cow;

use futures::TryStreamExt as _;
use lmao_ports::Digest;
use sqlx::{AssertSqlSafe, Row as _, SqlitePool, sqlite::SqliteRow};

use super::apply::json;
use crate::read_model::digest::{CONTENT, Content, Field, Kind};

/// Of one moment: all tables are read in one transaction.
pub(super) async fn of(readers: &SqlitePool) -> sqlx::Result<Digest> {
    let mut transaction = readers.begin().await?;
    let mut content = Content::default();
    for table in &CONTENT {
        content.table(table);
        // Made of constants.
        let query = table.query();
        let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            for (column, kind) in table.columns {
                content.field(&field(&row, column, *kind)?);
            }
        }
    }
    transaction.commit().await?;
    Ok(content.digest())
}

fn field<'r>(row: &'r SqliteRow, column: &str, kind: Kind) -> sqlx::Result<Field<'r>> {
    let field = match kind {
        Kind::Id | Kind::Text => row.try_get::<Option<&str>, _>(column)?.map(|text| Field::Text(Cow::Borrowed(text))),
        Kind::Integer | Kind::Time | Kind::Flag => row.try_get::<Option<i64>, _>(column)?.map(Field::Integer),
        Kind::Real => row.try_get::<Option<f64>, _>(column)?.map(Field::Real),
        Kind::Json => match row.try_get::<Option<&str>, _>(column)? {
            Some(_) => Some(Field::Json(json(row, column)?)),
            None => None,
        },
    };
    Ok(field.unwrap_or(Field::Null))
}
