//! Language models behind an OpenAI-compatible endpoint: chat completions, streamed as server-sent events.
//!
//! Knows the wire and its faults. Does not retry: whoever asks decides, by [`LlmError::Passing`], whether to ask again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use eventsource_stream::{EventStreamError, Eventsource};
use futures::{Stream, StreamExt};
use lmao_ports::{ChatMessage, Completion, Llm, LlmError, Span, TokenSink};
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};

use self::{
    standing::LastRequest,
    tokens::Tokens,
    wire::{Answer, Chunk, Limit, Request},
};
use crate::{
    Standing,
    http::{BodyFault, body, broken},
    metrics::completed,
};

mod standing;
mod tokens;
mod wire;

/// The endpoint may be silent this long.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A completion may take this long.
const WHOLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A text is no longer; neither is one event, or an answer that is not streamed.
const MAX_BYTES: usize = 1 << 20;

/// What is kept of an endpoint's message.
const MESSAGE_CHARS: usize = 300;

/// Why an endpoint cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address makes no sense.
    #[error("`llm.base_url` must be an http or https address such as https://HOST/v1; {0:?} is not")]
    BaseUrl(String),
    /// The model has no name.
    #[error("`llm.model` must name a model of the endpoint")]
    Model,
    /// The key cannot be sent.
    #[error("`llm.api_key` holds characters that no HTTP header can carry")]
    ApiKey,
    /// The tokenizer cannot be used.
    #[error("`llm.tokenizer` must name a tokenizer.json; {} is none", path.display())]
    Tokenizer {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: tokenizers::Error,
    },
    /// TLS or the resolver does not start.
    #[error("the HTTP client does not start")]
    Client(#[source] reqwest::Error),
}

/// A model of an OpenAI-compatible endpoint (`POST {base_url}/chat/completions`).
pub struct OpenAi {
    client: reqwest::Client,
    url: Url,
    model: String,
    tokens: Tokens,
    context: usize,
    api_key: Option<String>,
    authorization: Option<HeaderValue>,
    last: LastRequest,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's business, nor a password in the address.
        f.debug_struct("OpenAi").field("host", &self.url.host_str()).field("model", &self.model).finish_non_exhaustive()
    }
}

impl OpenAi {
    /// Names the endpoint; nothing is sent yet.
    ///
    /// # Errors
    /// When the address, the model's name or the key make no sense.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>, api_key: Option<String>) -> Result<Self, Error> {
        let (base_url, model) = (base_url.into(), model.into());
        if model.trim().is_empty() {
            return Err(Error::Model);
        }
        let url = Url::parse(&format!("{}/chat/completions", base_url.trim_end_matches('/')))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or(Error::BaseUrl(base_url))?;
        let api_key = api_key.filter(|key| !key.is_empty());
        let authorization = match &api_key {
            Some(key) => {
                let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| Error::ApiKey)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let mut builder = crate::http::client();
        if url.scheme() == "http" {
            // An endpoint on this machine must not fail for want of the system's certificates.
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .read_timeout(IDLE_LIMIT)
            .timeout(WHOLE_LIMIT)
            // Followed, a POST would become a GET, and the key might go elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::Client)?;
        let (tokens, context) = (Tokens::of_model(&model), tokens::context_of(&model));
        let last = LastRequest::default();
        Ok(Self { client, url, model, tokens, context, api_key, authorization, last })
    }

    /// Counts tokens by the `tokenizer.json` at this path, for a model whose name says nothing of its tokenizer.
    ///
    /// # Errors
    /// When the file cannot be read or is no tokenizer.
    pub fn tokenizer(mut self, path: &Path) -> Result<Self, Error> {
        self.tokens = Tokens::of_file(path)?;
        Ok(self)
    }

    /// Tokens that a completion of this model may have, read and written together, where its server allows others than its
    /// name says.
    #[must_use]
    pub const fn context_tokens(mut self, tokens: usize) -> Self {
        self.context = tokens;
        self
    }

    /// How the endpoint stands: down after a request that failed, be it refused, until one is answered in full.
    pub fn standing(&self) -> Standing {
        self.last.standing()
    }

    async fn post(&self, request: &Request<'_>) -> Result<reqwest::Response, LlmError> {
        let mut post = self.client.post(self.url.clone()).header(ACCEPT, "text/event-stream").json(request);
        if let Some(authorization) = &self.authorization {
            post = post.header(AUTHORIZATION, authorization.clone());
        }
        post.send().await.map_err(|error| self.passing(&broken(&error)))
    }

    /// Sends the request, in the dialect that the endpoint understands.
    async fn open(&self, mut request: Request<'_>) -> Result<reqwest::Response, LlmError> {
        loop {
            let response = self.post(&request).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let message = self.message(response).await;
            if status.is_client_error() && request.adapt(&message) {
                continue;
            }
            return Err(self.refusal(status, &message));
        }
    }

    /// What a status other than success means.
    fn refusal(&self, status: StatusCode, message: &str) -> LlmError {
        let text = format!("it answers {status}{}{message}", if message.is_empty() { "" } else { ": " });
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => self.passing(&text),
            status if status.is_server_error() => self.passing(&text),
            status if status.is_redirection() => {
                self.refused(&format!("it answers {status}; set `llm.base_url` to where it redirects to"))
            }
            _ => self.refused(&text),
        }
    }

    /// The endpoint's own words in an error's body, as far as they can be had.
    async fn message(&self, response: reqwest::Response) -> String {
        let body = body(response, MAX_BYTES).await.unwrap_or_default();
        let message = wire::error_message(&body).unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        message.chars().take(MESSAGE_CHARS).collect()
    }

    async fn streamed(&self, response: reqwest::Response, sink: &mut TokenSink) -> Result<Completion, LlmError> {
        let unfinished = Arc::new(AtomicUsize::new(0));
        let mut events = bounded(response.bytes_stream(), Arc::clone(&unfinished)).eventsource();
        let mut reading = Reading { completion: self.empty(), finished: false };
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| match error {
                EventStreamError::Transport(BodyFault::Transfer(error)) => self.passing(&broken(&error)),
                EventStreamError::Transport(BodyFault::TooLong) => self.too_long(),
                EventStreamError::Utf8(_) | EventStreamError::Parser(_) => {
                    self.passing("it sends no valid event stream")
                }
            })?;
            unfinished.store(0, Ordering::Relaxed);
            if event.data.trim() == "[DONE]" {
                return self.whole(reading);
            }
            let chunk: Chunk = serde_json::from_str(&event.data)
                .map_err(|_| self.passing("it sends an event that is no chunk of a chat completion"))?;
            self.read(chunk, &mut reading, sink)?;
        }
        self.whole(reading)
    }

    fn read(&self, chunk: Chunk, reading: &mut Reading, sink: &mut TokenSink) -> Result<(), LlmError> {
        if let Some(error) = chunk.error {
            return Err(self.passing(&wire::message_of(&error).unwrap_or_else(|| "it reports an error".to_owned())));
        }
        let completion = &mut reading.completion;
        if let Some(model) = chunk.model.filter(|model| !model.is_empty()) {
            completion.model = model;
        }
        completion.usage = chunk.usage.map(Into::into).or(completion.usage);
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(()) };
        if let Some(piece) = choice.delta.content.filter(|piece| !piece.is_empty()) {
            if completion.text.len() + piece.len() > MAX_BYTES {
                return Err(self.too_long());
            }
            completion.text.push_str(&piece);
            sink(&piece);
        }
        reading.finished |= choice.finish_reason.is_some();
        Ok(())
    }

    /// The completion, if its stream came to an end and did not just stop.
    fn whole(&self, reading: Reading) -> Result<Completion, LlmError> {
        let text = &reading.completion.text;
        if !reading.finished {
            return Err(self.passing(&format!("it broke off after {} bytes", text.len())));
        }
        if text.is_empty() {
            return Err(self.refused("it wrote nothing"));
        }
        Ok(reading.completion)
    }

    /// The answer of an endpoint that does not stream.
    async fn at_once(&self, response: reqwest::Response, sink: &mut TokenSink) -> Result<Completion, LlmError> {
        let body = match body(response, MAX_BYTES).await {
            Ok(body) => body,
            Err(BodyFault::TooLong) => return Err(self.too_long()),
            Err(BodyFault::Transfer(error)) => return Err(self.passing(&broken(&error))),
        };
        if let Some(message) = wire::error_message(&body) {
            return Err(self.passing(&message));
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.passing("it answers with something that is no chat completion"))?;
        let text = answer.choices.into_iter().next().and_then(|choice| choice.message.content).unwrap_or_default();
        if text.is_empty() {
            return Err(self.refused("it wrote nothing"));
        }
        sink(&text);
        let model = answer.model.filter(|model| !model.is_empty()).unwrap_or_else(|| self.model.clone());
        Ok(Completion { text, model, usage: answer.usage.map(Into::into) })
    }

    fn empty(&self) -> Completion {
        Completion { text: String::new(), model: self.model.clone(), usage: None }
    }

    fn too_long(&self) -> LlmError {
        self.refused(&format!("it writes more than {MAX_BYTES} bytes"))
    }

    fn passing(&self, message: &str) -> LlmError {
        LlmError::Passing(self.scrubbed(message))
    }

    fn refused(&self, message: &str) -> LlmError {
        LlmError::Refused(self.scrubbed(message))
    }

    /// Without the key, which some endpoints quote.
    fn scrubbed(&self, message: &str) -> String {
        match &self.api_key {
            Some(key) => message.replace(key.as_str(), "…"),
            None => message.to_owned(),
        }
    }
}

#[async_trait]
impl Llm for OpenAi {
    fn model(&self) -> &str {
        &self.model
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.tokens.count(text)
    }

    fn context_tokens(&self) -> usize {
        self.context
    }

    async fn complete(
        &self,
        messages: Vec<ChatMessage>,
        max_tokens: u32,
        sink: TokenSink,
    ) -> Result<Completion, LlmError> {
        let begun = Instant::now();
        let span = Span::asking(|| format!("chat {}", self.model).into());
        span.set("gen_ai.operation.name", "chat");
        span.set_with("gen_ai.request.model", || self.model.clone());
        let completion = span.run(self.ask(&messages, max_tokens, sink)).await;
        let error = completion.as_ref().err().map(|error| match error {
            LlmError::Passing(_) => "passing",
            LlmError::Refused(_) => "refused",
        });
        let usage = completion.as_ref().ok().and_then(|completion| completion.usage);
        if let Some(error) = error {
            span.fail(error);
        }
        if let Some(usage) = usage {
            span.set("gen_ai.usage.input_tokens", i64::from(usage.prompt));
            span.set("gen_ai.usage.output_tokens", i64::from(usage.completion));
        }
        completed(&self.model, begun.elapsed(), usage, error);
        match &completion {
            Ok(_) => self.last.answered(&self.model),
            Err(LlmError::Passing(why) | LlmError::Refused(why)) => self.last.failed(&self.model, why),
        }
        completion
    }
}

impl OpenAi {
    async fn ask(
        &self,
        messages: &[ChatMessage],
        max_tokens: u32,
        mut sink: TokenSink,
    ) -> Result<Completion, LlmError> {
        let response = self.open(Request::new(&self.model, messages, Limit::MaxTokens(max_tokens))).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            self.streamed(response, &mut sink).await
        } else {
            self.at_once(response, &mut sink).await
        }
    }
}

/// A completion that is still coming.
struct Reading {
    completion: Completion,
    finished: bool,
}

/// Ends the stream once more than [`MAX_BYTES`] have come since `unfinished` was last set to 0.
fn bounded(
    stream: impl Stream<Item = reqwest::Result<bytes::Bytes>> + Send + 'static,
    unfinished: Arc<AtomicUsize>,
) -> impl Stream<Item = Result<bytes::Bytes, BodyFault>> {
    stream
        .map(move |piece| {
            let piece = piece.map_err(BodyFault::Transfer)?;
            let before = unfinished.fetch_add(piece.len(), Ordering::Relaxed);
            if before + piece.len() > MAX_BYTES { Err(BodyFault::TooLong) } else { Ok(piece) }
        })
        .boxed()
}

#[cfg(test)]
mod tests;
