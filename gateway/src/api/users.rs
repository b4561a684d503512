//! Accounts: opened by administrators, and by the first start.

use std::time::Duration;

use lmao_events::{
    AnyEvent, Category, CommandRef, StreamId, derive_id,
    user::{self, Field, Registered, RegistrationRefused, Role},
};
use lmao_ports::CommandError;
use poem::http::StatusCode;
use poem_openapi::{Enum, Object, OpenApi, param::Header};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Tag, auth::secret_of};
use crate::{
    app::App,
    body::JsonBody,
    context::{Admin, Context},
    error::{ApiError, key_reused},
    idempotency,
    reply::{Created, Reply},
    watch::{Found, Watch},
};

const ROUTE: &str = "POST /admin/users";
/// How long the claims on name and address may take.
const WITHIN: Duration = Duration::from_secs(10);

/// What an account may do.
#[derive(Debug, Clone, Copy, Default, Enum, Serialize, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum UserRole {
    /// What concerns this person alone.
    #[default]
    User,
    /// Also what concerns everyone.
    Admin,
}

/// An account to open.
#[derive(Debug, Object, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct UserRequest {
    /// 1 to 255 characters.
    username: String,
    email: String,
    /// 8 to 1024 bytes.
    password: String,
    #[serde(default)]
    #[oai(default)]
    role: UserRole,
}

/// An account.
#[derive(Debug, Object, Serialize)]
struct UserResponse {
    id: Uuid,
    username: String,
    email: String,
    role: UserRole,
}

super::routes! {
    /// `/admin/users`
    Users
}

#[OpenApi(tag = "Tag::Administration")]
impl Users {
    /// Open an account
    ///
    /// A user name or e-mail address that is in use is refused (409).
    #[oai(path = "/admin/users", method = "post", operation_id = "create_user")]
    async fn create(
        &self,
        context: Context,
        admin: Admin,
        /// A retry with the same key gets the first outcome.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: JsonBody<UserRequest>,
    ) -> Result<Reply<UserResponse, Created>, ApiError> {
        let app = self.app()?;
        let JsonBody(UserRequest { username, email, password, role }) = body;
        // The password stays out of the stored hash: it could be guessed from it.
        let command = idempotency::command(admin.0.id, ROUTE, key.0.as_deref(), &(&username, &email, role))?;
        app.remember(command).await?;
        let id = command.map_or_else(|| app.fresh_id(), |command| derive_id(command.id, "user"));
        let stored = match role {
            UserRole::User => Role::User,
            UserRole::Admin => Role::Admin,
        };
        let user = NewUser { id, username, email, role: stored };
        let position = register(app, &context, Some(admin.0.id), user.clone(), &password, command).await?;
        let NewUser { username, email, .. } = user;
        Ok(Reply::new(StatusCode::CREATED, UserResponse { id, username, email, role }).at(position))
    }
}

/// An account to open.
#[derive(Debug, Clone)]
pub(crate) struct NewUser {
    pub(crate) id: Uuid,
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) role: Role,
}

/// Opens an account and waits until it can be used. The password is in the vault before anything depends on it.
pub(crate) async fn register(
    app: &App,
    context: &Context,
    who: Option<Uuid>,
    user: NewUser,
    password: &str,
    command: Option<CommandRef>,
) -> Result<String, ApiError> {
    let NewUser { id, username, email, role } = user;
    let secret = secret_of(id);
    let hash = app.passwords.hash(password, &*app.state.entropy).await?;
    let standing = app.state.vault.put_new(&secret, &hash).await?;
    if standing != hash && !app.passwords.verify(password, Some(&standing)).await? {
        return Err(key_reused());
    }
    let stream = StreamId::new(Category::User, id);
    let mut watch = Watch::open(app, stream).await;
    let registered = user::Command::Register(Registered { id, username, email, role });
    let sent = app.send(stream, registered, context.meta(who, command)).await;
    if let Err(error) = sent {
        // Refused: there will be no account. In every other case there may be one.
        if matches!(&error, CommandError::Rejected(rejection) if rejection.reason != "user_exists") {
            app.state.vault.destroy(&secret).await?;
        }
        return Err(error.into());
    }
    match watch.until(app, Instant::now() + WITHIN, |events| events.iter().find_map(end)).await? {
        Some(Found { what: None, commit }) => Ok(app.written(commit.position).await),
        Some(Found { what: Some(field), commit }) => {
            app.state.vault.destroy(&secret).await?;
            let (reason, name) = match field {
                Field::Username => ("username_taken", "user name"),
                Field::Email => ("email_taken", "e-mail address"),
            };
            let text = format!("this {name} is in use; choose another");
            Err(ApiError::new(StatusCode::CONFLICT, reason, text).at(app.written(commit.position).await))
        }
        None => {
            let text = "the account is still being opened; send the same request again with the same Idempotency-Key";
            Err(ApiError::passing("still_opening", text, Duration::from_secs(2)).with("user_id", id.to_string()))
        }
    }
}

/// How a registration ended: with the field that was taken, or without one.
fn end(event: &AnyEvent) -> Option<Option<Field>> {
    match event {
        AnyEvent::User(user::Event::Activated(_)) => Some(None),
        AnyEvent::User(user::Event::RegistrationRefused(RegistrationRefused { field })) => Some(Some(*field)),
        _ => None,
    }
}
