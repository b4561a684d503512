//! Compression of replies that lie in memory. Streams are left alone: a compressor would hold back what is to be seen now.

use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderValue, header},
    web::{Compress, CompressionAlgo},
};

use crate::reply::InMemory;

/// Replies below this size are sent as they are.
const WORTH_BYTES: usize = 1024;

/// The coding that the client likes best among those we have.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<CompressionAlgo> {
    let accepted = headers.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
    let accepts = |coding: &str| {
        accepted.split(',').any(|one| {
            let (name, quality) = one.split_once(';').unwrap_or((one, ""));
            let refused = quality.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
            name.trim().eq_ignore_ascii_case(coding) && !refused
        })
    };
    // At these sizes gzip costs less and saves about as much.
    [("gzip", CompressionAlgo::GZIP), ("br", CompressionAlgo::BR)]
        .into_iter()
        .find_map(|(name, coding)| accepts(name).then_some(coding))
}

/// The reply, compressed if that is wanted and worth it.
pub(crate) fn with(mut response: Response, coding: Option<CompressionAlgo>) -> Response {
    let Some(InMemory(bytes)) = response.extensions().get().copied() else { return response };
    if bytes < WORTH_BYTES {
        return response;
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    match coding {
        Some(coding) => Compress::new(response, coding).into_response(),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            wanted(&headers)
        };
        assert_eq!(wanted("br, gzip"), Some(CompressionAlgo::GZIP));
        assert_eq!(wanted("gzip;q=0, br"), Some(CompressionAlgo::BR));
        assert_eq!(wanted("deflate, zstd"), None);
        assert_eq!(super::wanted(&HeaderMap::new()), None);
    }
}
