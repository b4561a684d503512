//! The tables: made and brought up to date by `lmao migrate`, and by nothing else.

use lmao_ports::Unavailable;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};

use super::{
    error::{NOT_MIGRATED, STORE, explain},
    server::{Server, of_pool},
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long a migration may take, waiting for those of others included.
const AT_MOST: &str = "10min";

/// Makes the schema and its tables at this URL (written as for [`super::PostgresReadModel::open`]), or brings them up to date.
/// Does nothing where all is done; one at a time, if several try. What was begun and not ended leaves nothing.
///
/// # Errors
/// [`Unavailable`]: the server cannot be used, this user may not, or the tables were made by a newer build.
pub async fn migrate(url: &str) -> Result<(), Unavailable> {
    let server = Server::at(url)?.with("statement_timeout", AT_MOST);
    let mut connection = server.connect().await?;
    make_schema(&mut connection, &server.schema).await.map_err(|error| server.cannot_use(error))?;
    MIGRATIONS.run(&mut connection).await.map_err(|error| cannot_migrate(&server, error))?;
    // Its work is done, whatever the server says to that.
    let _ = connection.close().await;
    Ok(())
}

async fn make_schema(connection: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('lmao migrate', 0))").execute(&mut *transaction).await?;
    let there: bool =
        sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL").bind(schema).fetch_one(&mut *transaction).await?;
    // Asked for first: a user who may not make schemas may be given one.
    if !there {
        // Of letters, digits and _ alone.
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

fn cannot_migrate(server: &Server, error: MigrateError) -> Unavailable {
    let place = server.name();
    let message = match &error {
        MigrateError::VersionMissing(_) => format!("{place} was made by a newer build: upgrade lmao"),
        MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => {
            format!("{place} was made by another build; name an empty schema, and it is built anew from the log")
        }
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            format!("cannot migrate {place}: {}", explain(cause))
        }
        _ => format!("cannot migrate {place}"),
    };
    Unavailable::new(STORE, message, error)
}

/// Why tables cannot be used by this build.
pub(super) enum Unfit {
    /// They are not there, or of an older build.
    NotMigrated(Option<sqlx::Error>),
    /// They are of a newer build.
    Newer,
    /// Nobody can tell.
    Unknown(Unavailable),
}

impl Unfit {
    pub(super) fn at(self, server: &Server) -> Unavailable {
        let place = server.name();
        match self {
            Self::NotMigrated(Some(error)) => Unavailable::new(STORE, format!("{place}: {NOT_MIGRATED}"), error),
            Self::NotMigrated(None) => Unavailable::plain(STORE, format!("{place}: {NOT_MIGRATED}")),
            Self::Newer => Unavailable::plain(STORE, format!("{place} was made by a newer build: upgrade lmao")),
            Self::Unknown(error) => Unavailable { message: format!("cannot use {place}: {}", error.message), ..error },
        }
    }
}

/// The tables are as this build's migrations make them.
pub(super) async fn must_be_current(pool: &PgPool) -> Result<(), Unfit> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max();
    let asked: sqlx::Result<Option<i64>> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await;
    match asked {
        Ok(found) if found == known => Ok(()),
        Ok(found) if found > known => Err(Unfit::Newer),
        Ok(_) => Err(Unfit::NotMigrated(None)),
        Err(error) if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01")) => {
            Err(Unfit::NotMigrated(Some(error)))
        }
        Err(error) => Err(Unfit::Unknown(of_pool(pool, error))),
    }
}
