//! A document's own file, as it was handed in.

use std::path::PathBuf;

use lmao_events::{BlobRef, Category, StreamId};
use lmao_ports::Folder;
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Header, Path},
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};
use tokio::fs::File;

use super::{
    Tag,
    documents::{document_id, format_of, no_document},
};
use crate::{
    context::User,
    error::ApiError,
    ingest::{Standing, standing},
    position::Reads,
};

/// Of what nobody has read yet, or nobody can.
const UNKNOWN: &str = "application/octet-stream";
const SAME: &str = "The file is the one that `If-None-Match` names.";

super::routes! {
    /// `/api/v1/documents/{id}/content`
    Content
}

#[OpenApi(tag = "Tag::Documents")]
impl Content {
    /// The file itself
    ///
    /// As it was handed in, whether it could be read or not. Never changes: another content is another document.
    #[oai(path = "/api/v1/documents/:id/content", method = "get", operation_id = "get_document_content")]
    async fn get(
        &self,
        user: User,
        id: Path<String>,
        /// The `ETag` of the copy that the client has.
        #[oai(name = "If-None-Match")]
        known: Header<Option<String>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Original, ApiError> {
        let app = self.app()?;
        let (owner, id) = (user.0.id, document_id(&id.0)?);
        app.catch_up(position.0.as_deref(), Reads::Tables).await?;
        let row = app.state.read_model.document(owner, id).await?.ok_or_else(no_document)?;
        // Which attempt has kept the file only the log knows.
        let stream = StreamId::new(Category::Document, id);
        let Standing::Present(kept) = standing(app, stream).await? else { return Err(no_document()) };
        let (uploaded, blob) = (&kept.uploaded, kept.uploaded.content);
        let tag = format!("\"{}\"", blob.sha256);
        let is_known = known.0.is_some_and(|known| known.split(',').any(|one| matches(one.trim(), &tag)));
        let folder = Folder { owner, document: id, attempt: uploaded.attempt };
        let path = app.state.blobs.local(folder, &blob).await?.ok_or_else(no_document)?;
        let disposition = disposition(&uploaded.filename);
        // What is packed is told by what is in it.
        let is_packed = [".gz", ".tgz"].iter().any(|end| uploaded.filename.to_lowercase().ends_with(end));
        let kind = media_type(if is_packed { "gzip" } else { format_of(&row).unwrap_or_default() });
        let body = if is_known { None } else { Some((open(&path).await?, blob)) };
        Ok(Original { body, kind, disposition, tag })
    }
}

async fn open(path: &PathBuf) -> Result<File, ApiError> {
    File::open(path).await.map_err(|error| {
        tracing::warn!(%error, path = %path.display(), "a file that is kept cannot be opened");
        ApiError::internal("the file cannot be opened")
    })
}

/// Whether one of the client's tags is this one (RFC 9110, weak comparison).
fn matches(one: &str, tag: &str) -> bool {
    one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
}

/// To be saved under this name (RFC 6266); other than plain names are told in the extended notation (RFC 8187).
fn disposition(filename: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " -_.,()+".contains(c);
    let plain: String = filename.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain == filename {
        return format!("attachment; filename=\"{plain}\"");
    }
    let extended: String = filename
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}")
}

/// The media type of a format, as extraction names it. A text's encoding is not told: the file has its own.
fn media_type(format: &str) -> &'static str {
    match format {
        "pdf" => "application/pdf",
        "html" => "text/html",
        "markdown" => "text/markdown",
        "text" | "code" => "text/plain",
        "csv" => "text/csv",
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        "eml" => "message/rfc822",
        "rtf" => "application/rtf",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "odt" => "application/vnd.oasis.opendocument.text",
        "ods" => "application/vnd.oasis.opendocument.spreadsheet",
        "odp" => "application/vnd.oasis.opendocument.presentation",
        "epub" => "application/epub+zip",
        "zip" => "application/zip",
        "tar" => "application/x-tar",
        "gzip" => "application/gzip",
        _ => UNKNOWN,
    }
}

/// A file, read from the disk piece by piece while it is sent; or nothing, to who has it.
#[derive(Debug)]
struct Original {
    body: Option<(File, BlobRef)>,
    kind: &'static str,
    disposition: String,
    tag: String,
}

impl IntoResponse for Original {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            None => StatusCode::NOT_MODIFIED.into_response(),
            Some((file, blob)) => {
                let mut response = Response::builder().content_type(self.kind).body(Body::from_async_read(file));
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(blob.size));
                response
            }
        };
        let told = [(header::ETAG, self.tag), (header::CONTENT_DISPOSITION, self.disposition)];
        for (name, text) in told {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl ApiResponse for Original {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "binary")));
        let file = vec![MetaMediaType { content_type: UNKNOWN, schema }];
        let response = |status, description, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: vec![],
        };
        let described = "The file, under the media type of its format; `ETag` is its SHA-256.";
        MetaResponses { responses: vec![response(200, described, file), response(304, SAME, vec![])] }
    }

    fn register(_: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_whatever_is_in_it() {
        for (name, told) in [
            ("report (2).pdf", "attachment; filename=\"report (2).pdf\""),
            ("a\"; x=\".md", "attachment; filename=\"a__ x__.md\"; filename*=UTF-8''a%22%3B%20x%3D%22.md"),
            ("Größe.md", "attachment; filename=\"Gr__e.md\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.md"),
        ] {
            assert_eq!(disposition(name), told);
        }
    }

    #[test]
    fn a_copy_is_recognised_by_its_tag() {
        for (one, same) in [("\"a\"", true), ("W/\"a\"", true), ("*", true), ("\"b\"", false), ("a", false)] {
            assert_eq!(matches(one, "\"a\""), same, "{one}");
        }
    }
}
