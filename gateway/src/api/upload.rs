//! A file on its way in: streamed to disk, recognised if it was there before, followed until it can be found.

use std::{sync::Arc, time::Duration};

use lmao_events::{
    Category, CommandRef, Position, StreamId, Timestamp,
    document::{self, ORIGIN, Uploaded, stream_of},
};
use lmao_ports::{CommandError, Folder, PendingBlob};
use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, Object, OpenApi,
    param::{Header, Query},
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use uuid::Uuid;

use super::Tag;
use crate::{
    app::{App, BEYOND_WAIT},
    context::{Context, User},
    error::{ApiError, key_reused, unanswered},
    idempotency,
    ingest::{Known, Progress, Standing, outcome, standing},
    multipart::{self, Received},
    reply::{DoneOrAccepted, Reply},
    watch::{Found, Watch},
};

const ROUTE: &str = "POST /api/v1/documents/upload";
/// Seconds that an upload waits at most.
const MAX_WAIT: u64 = 60;

/// What became of a file.
#[derive(Debug, Object, Serialize)]
pub(super) struct UploadResponse {
    document_id: Uuid,
    /// `success` once it can be found, `processing` when that took longer than the wait.
    status: String,
    /// Passages that can be found.
    chunks_processed: u32,
    /// Seconds.
    processing_time: f64,
    /// The same content was uploaded before: this is that document.
    duplicate: bool,
}

/// The body of an upload, received.
struct UploadBody {
    received: Received,
    _place: OwnedSemaphorePermit,
}

impl<'a> ApiExtractor<'a> for UploadBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let field = |schema: MetaSchema, text| {
            MetaSchemaRef::Inline(Box::new(MetaSchema { description: Some(text), ..schema }))
        };
        let schema = MetaSchema {
            required: vec!["file"],
            properties: vec![
                ("file", field(MetaSchema::new_with_format("string", "binary"), "The file, once.")),
                ("metadata", field(MetaSchema::new("object"), "What is to be kept with it: a JSON object.")),
            ],
            ..MetaSchema::new("object")
        };
        let content = vec![MetaMediaType {
            content_type: "multipart/form-data",
            schema: MetaSchemaRef::Inline(Box::new(schema)),
        }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let missing = || ApiError::internal("the request did not come through the edge");
        let app = request.extensions().get::<Arc<App>>().ok_or_else(missing)?;
        let full = |_| {
            let text = "too many uploads are under way; try again in a moment";
            ApiError::passing("overloaded", text, Duration::from_secs(1))
        };
        let place = app.gates.uploads.clone().try_acquire_owned().map_err(full)?;
        let limit = app.state.limits.upload_bytes;
        let received = multipart::receive(request, body.take()?, &*app.state.blobs, limit).await?;
        Ok(Self { received, _place: place })
    }
}

super::routes! {
    /// `/api/v1/documents/upload`
    Upload
}

#[OpenApi(tag = "Tag::Documents")]
impl Upload {
    /// Hand in a file
    ///
    /// Answers once it can be found, or with 202 after the wait: it goes on, and `GET /api/v1/documents/{id}` shows how
    /// far it is. A file that cannot be taken in is 422 with the reason, and the document stays, to be tried again or
    /// deleted. The same content again, with the same `origin` in its metadata or without any, answers the document that is
    /// there, with `duplicate`.
    #[oai(path = "/api/v1/documents/upload", method = "post", operation_id = "upload_document")]
    async fn upload(
        &self,
        context: Context,
        user: User,
        /// Seconds to wait for the outcome, 0 to 60; 25 unless given.
        wait: Query<Option<u64>>,
        /// A retry with the same key gets the first outcome.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: UploadBody,
    ) -> Result<Reply<UploadResponse, DoneOrAccepted>, ApiError> {
        let app = self.app()?;
        // The wait begins when the file is here, however long it took to arrive.
        let deadline = deadline(app, Instant::now(), wait.0)?;
        let UploadBody { received: Received { file, filename, metadata }, _place } = body;
        let (owner, content) = (user.0.id, file.blob());
        let command = idempotency::command(owner, ROUTE, key.0.as_deref(), &(&content, &filename, &metadata))?;
        let answered = async {
            app.remember(command).await?;
            let attempt = Some(app.fresh_id());
            let uploaded = Uploaded { owner, filename, content, metadata: Value::Object(metadata), attempt };
            check(&uploaded)?;
            let origin = uploaded.metadata[ORIGIN].as_str();
            let stream = stream_of(&app.keyed_ids, owner, &content.sha256, origin);
            let mut watch = Watch::open(app, stream).await;
            let ingested = take_in(app, &context, stream, uploaded, file, command, &mut watch).await?;
            ingested.wait(app, watch, deadline).await
        };
        let begun = Instant::now();
        let at_most = deadline.max(begun + app.state.limits.wait) + BEYOND_WAIT;
        tokio::time::timeout_at(at_most, answered).await.unwrap_or_else(|_| Err(unanswered()))
    }
}

/// When a wait of so many seconds ends.
pub(super) fn deadline(app: &App, begun: Instant, wait: Option<u64>) -> Result<Instant, ApiError> {
    match wait {
        None => Ok(begun + app.state.limits.wait),
        Some(seconds @ 0..=MAX_WAIT) => Ok(begun + Duration::from_secs(seconds)),
        Some(_) => {
            let text = format!("wait is a number of seconds from 0 to {MAX_WAIT}");
            Err(ApiError::bad_request("bad_parameter", text).with("parameter", "wait"))
        }
    }
}

/// What the decider would refuse, before anything is kept.
fn check(uploaded: &Uploaded) -> Result<(), ApiError> {
    let state = document::State::default();
    let refused =
        <document::Document as lmao_events::Decider>::decide(&state, document::Command::Upload(uploaded.clone()));
    refused.map(|_| ()).map_err(Into::into)
}

async fn take_in(
    app: &App,
    context: &Context,
    stream: StreamId,
    uploaded: Uploaded,
    file: Box<dyn PendingBlob>,
    command: Option<CommandRef>,
    watch: &mut Watch,
) -> Result<Ingested, ApiError> {
    let since = app.now();
    let owner = uploaded.owner;
    match standing(app, stream).await? {
        Standing::Present(known) => return known.met(stream, &uploaded, command),
        Standing::BeingDeleted => {
            let text = "the same content is being deleted; upload it again in a moment";
            return Err(ApiError::passing("document_being_deleted", text, Duration::from_secs(1)));
        }
        Standing::Absent => {}
    }
    // The bytes are durable before the log speaks of them. If it never does, their folder is found to be an orphan.
    file.keep(Folder { owner, document: stream.id, attempt: uploaded.attempt }).await?;
    let sent = app.send(stream, document::Command::Upload(uploaded), context.meta(Some(owner), command)).await;
    match sent {
        Ok(receipt) if receipt.repeated => {
            Ok(Ingested { stream, duplicate: false, since, position: receipt.head.position })
        }
        Ok(receipt) => {
            watch.after(receipt.head);
            Ok(Ingested { stream, duplicate: false, since, position: receipt.head.position })
        }
        // Another upload of the same content came first.
        Err(CommandError::Rejected(rejection)) if rejection.reason == "duplicate" => {
            Ok(Ingested { stream, duplicate: true, since, position: Position(0) })
        }
        Err(error) => Err(error.into()),
    }
}

impl Known {
    /// What an upload is told of the document that it met.
    fn met(&self, stream: StreamId, again: &Uploaded, command: Option<CommandRef>) -> Result<Ingested, ApiError> {
        let retried = command.is_some_and(|command| command.id == self.causation);
        // Whoever tries again makes another attempt.
        let uploaded = Uploaded { attempt: self.uploaded.attempt, ..again.clone() };
        if retried && self.uploaded != uploaded {
            return Err(key_reused());
        }
        Ok(Ingested { stream, duplicate: !retried, since: self.at, position: Position(0) })
    }
}

/// A document that is on its way.
pub(super) struct Ingested {
    pub(super) stream: StreamId,
    pub(super) duplicate: bool,
    pub(super) since: Timestamp,
    /// What was written, if anything was.
    pub(super) position: Position,
}

impl Ingested {
    /// Follows it to its end, or to `deadline`.
    pub(super) async fn wait(
        self,
        app: &App,
        mut watch: Watch,
        deadline: Instant,
    ) -> Result<Reply<UploadResponse, DoneOrAccepted>, ApiError> {
        debug_assert_eq!(self.stream.category, Category::Document, "only documents are taken in");
        let body = |status: &str, chunks_processed, until: Timestamp| UploadResponse {
            document_id: self.stream.id,
            status: status.to_owned(),
            chunks_processed,
            processing_time: until.since(self.since).as_secs_f64(),
            duplicate: self.duplicate,
        };
        let found = outcome(app, &mut watch, deadline).await?;
        let Some(Found { what, commit }) = found else {
            let position = app.written(self.position.max(watch.seen)).await;
            return Ok(Reply::new(StatusCode::ACCEPTED, body("processing", 0, app.now())).at(position));
        };
        let position = app.written(commit.position.max(self.position)).await;
        match what {
            Progress::Ready { chunks } => Ok(Reply::ok(body("success", chunks, commit.header.time)).at(position)),
            Progress::Failed(failure) => {
                // What is wrong with the file itself stays wrong.
                let text = if failure.retryable {
                    format!("{}; try it again or delete it", failure.message.trim_end_matches('.'))
                } else {
                    failure.message.clone()
                };
                let error = ApiError::unprocessable(failure.reason, text).at(position);
                Err(self.about(error.with("status", "failed").with("retryable", failure.retryable)))
            }
            Progress::Deleted => {
                let text = "the document was deleted while it was taken in";
                Err(self.about(ApiError::new(StatusCode::CONFLICT, "document_deleted", text).at(position)))
            }
        }
    }

    fn about(&self, error: ApiError) -> ApiError {
        error.with("document_id", self.stream.id.to_string()).with("duplicate", self.duplicate)
    }
}
