//! The digest of the content.

use futures::TryStreamExt as _;
use lmao_ports::Digest;
use sqlx::{AssertSqlSafe, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::types::{Time, json_said, said};
use crate::read_model::digest::{CONTENT, Content, Field, Kind};

/// Of one moment: all tables are read in one transaction.
pub(super) async fn of(pool: &PgPool) -> sqlx::Result<Digest> {
    let mut transaction = pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *transaction).await?;
    let mut content = Content::default();
    for table in &CONTENT {
        content.table(table);
        // Made of constants.
        let mut rows = sqlx::query(AssertSqlSafe(table.query())).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            for (column, kind) in table.columns {
                content.field(&field(&row, column, *kind)?);
            }
        }
    }
    transaction.commit().await?;
    Ok(content.digest())
}

fn field<'r>(row: &'r PgRow, column: &str, kind: Kind) -> sqlx::Result<Field<'r>> {
    let field = match kind {
        Kind::Id => row.try_get::<Option<Uuid>, _>(column)?.map(|id| Field::Text(id.to_string().into())),
        Kind::Text => row.try_get::<Option<&str>, _>(column)?.map(|text| Field::Text(said(text))),
        Kind::Integer => row.try_get::<Option<i64>, _>(column)?.map(Field::Integer),
        Kind::Time => row.try_get::<Option<Time>, _>(column)?.map(|time| Field::Integer(time.0.0)),
        Kind::Flag => row.try_get::<Option<bool>, _>(column)?.map(|flag| Field::Integer(flag.into())),
        Kind::Real => row.try_get::<Option<f64>, _>(column)?.map(Field::Real),
        Kind::Json => row.try_get::<Option<serde_json::Value>, _>(column)?.map(|value| Field::Json(json_said(value))),
    };
    Ok(field.unwrap_or(Field::Null))
}
