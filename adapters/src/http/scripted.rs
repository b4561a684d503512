//! A server that speaks HTTP/1.1 on a real socket and answers by a script, for what cannot be had otherwise: endpoints that
//! break off, refuse, or charge for every call.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The raw bytes of an answer, written piece by piece; then the connection is closed.
pub(crate) type Reply = Vec<Vec<u8>>;

/// The server; ends with this.
#[derive(Debug)]
pub(crate) struct Scripted {
    /// Its root, without a slash at the end.
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Starts it on a free port. `script` gets the whole request, and how many came before it.
    pub(crate) async fn start(script: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(vec![]));
        let (seen, script) = (Arc::clone(&requests), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                tokio::spawn(async move { answer(socket, &seen, &*script).await });
            }
        });
        Self { url, requests, task }
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut socket: TcpStream, seen: &Mutex<Vec<String>>, script: &(impl Fn(&str, usize) -> Reply + ?Sized)) {
    let Some(request) = read_request(&mut socket).await else { return };
    let reply = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        script(&request, seen.len() - 1)
    };
    for piece in reply {
        if socket.write_all(&piece).await.is_err() {
            return;
        }
        // Lets the piece arrive as one, which the network does not promise but usually does.
        tokio::task::yield_now().await;
    }
    let _ = socket.shutdown().await;
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut request = vec![];
    loop {
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).await.ok()?;
        request.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if n == 0 {
            return None;
        }
    }
}

/// An answer of known length.
pub(crate) fn whole(status: &str, kind: &str, body: &[u8]) -> Reply {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    vec![head.into_bytes(), body.to_vec()]
}

/// An answer in chunks (RFC 9112, section 7.1), without its end.
pub(crate) fn chunked<T: AsRef<[u8]>>(kind: &str, chunks: &[T]) -> Reply {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    let mut reply = vec![head.into_bytes()];
    for chunk in chunks {
        let chunk = chunk.as_ref();
        let mut piece = format!("{:x}\r\n", chunk.len()).into_bytes();
        piece.extend_from_slice(chunk);
        piece.extend_from_slice(b"\r\n");
        reply.push(piece);
    }
    reply
}

/// The end of an answer in chunks.
pub(crate) fn end() -> Vec<u8> {
    b"0\r\n\r\n".to_vec()
}
