//! Request bodies: read in pieces, counted, never longer than their limit and never waited for without end.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use poem::{
    Body, Request, RequestBody,
    http::{HeaderMap, StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;

use crate::{app::App, error::ApiError};

/// How long a client may take to send a JSON body.
const JSON_WITHIN: Duration = Duration::from_secs(30);
/// How long, and how much, of a refused body is still read, so that the client gets to read the answer.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// A JSON request body of a stated size.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let limit = request.extensions().get::<Arc<App>>().map_or(0, |app| app.state.limits.json_bytes);
        let body = body.take()?;
        if !is_json(request.headers()) {
            let text = "send a JSON body with the header Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text).into());
        }
        let bytes = read(request.headers(), body, limit).await?;
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            // A list of the fields' values would do for the parser.
            parse::<serde::de::IgnoredAny>(&bytes)?;
            return Err(ApiError::unprocessable("bad_body", "the body is a JSON object, not a list").into());
        }
        Ok(Self(parse(&bytes)?))
    }
}

/// The `Content-Length`, where there is one.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Goes on reading a refused body for a moment: a client that is cut off while it sends never sees the answer.
pub(crate) fn linger(rest: impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        let discard = async {
            let mut rest = pin!(rest);
            let mut seen = 0;
            while let Some(Ok(piece)) = rest.next().await {
                seen += piece.len();
                if seen > LINGER_BYTES {
                    break;
                }
            }
        };
        tokio::time::timeout(LINGER, discard).await.ok();
    });
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let text = format!("a JSON body has at most {limit} bytes");
        ApiError::too_large("body_too_large", text).with("limit", limit)
    };
    let mut pieces = Box::pin(body.into_bytes_stream());
    if announced(headers).is_some_and(|length| length > limit as u64) {
        linger(pieces);
        return Err(too_large());
    }
    let collect = async {
        let mut bytes = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| ApiError::bad_request("body_incomplete", "the body ended early"))?;
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    };
    let late = || {
        let text = "the body did not arrive in time; send the request again";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", text)
    };
    let read = tokio::time::timeout(JSON_WITHIN, collect).await.unwrap_or_else(|_| Err(late()));
    if read.is_err() {
        linger(pieces);
    }
    read
}

/// JSON of the expected shape: what is no JSON is 400, another shape 422.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = |refusal: ApiError| refusal.with("line", error.line()).with("column", error.column());
        if error.is_data() {
            place(ApiError::unprocessable("bad_body", format!("the JSON has another shape than expected: {error}")))
        } else {
            place(ApiError::bad_request("malformed_json", format!("this is not JSON: {error}")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_syntax_are_told_apart() {
        let reason = |bytes: &[u8]| parse::<Vec<u8>>(bytes).unwrap_err().reason.into_owned();
        assert_eq!(parse::<Vec<u8>>(b"[1]").unwrap(), [1]);
        assert_eq!(reason(b"[1"), "malformed_json");
        assert_eq!(reason(b""), "malformed_json");
        assert_eq!(reason("[".repeat(100_000).as_bytes()), "bad_body");
        assert_eq!(reason(b"{}"), "bad_body");
        let deep = "[".repeat(100_000);
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().reason, "malformed_json");
    }

    #[tokio::test]
    async fn a_body_without_a_length_is_counted() {
        let endless = futures::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b' '; 1024])));
        let refused = read(&HeaderMap::new(), Body::from_bytes_stream(endless), 4096).await.unwrap_err();
        assert_eq!((refused.status, &*refused.reason), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
        let exact = Body::from_bytes(Bytes::from_static(&[b' '; 4096]));
        assert_eq!(read(&HeaderMap::new(), exact, 4096).await.unwrap().len(), 4096);
    }
}
