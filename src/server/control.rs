//! The control socket: a process that owns a data directory serves HTTP on `control.sock` in it, so that
//! commands on its log and its pipelines go through it.
//!
//! Only the user who started the process can connect (mode 0600).

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::error::{Error, Kind, Result};

/// The socket's name within a data directory.
const SOCKET: &str = "control.sock";

/// All that the socket serves.
pub fn router() -> Router {
    Router::new().merge(super::pipelines::router()).merge(super::topics::router())
}

/// A served socket; dropping it ends the serving and removes the file.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl ControlServer {
    /// Ends the serving when the answers that are under way are given, within a second: whoever asked this
    /// process to stop is told that it did.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        // An answer that takes longer is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.task).await;
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already, perhaps, with its directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves the socket of a data directory. `Ok(None)`: another live process does.
///
/// # Errors
/// What the file system says.
pub async fn serve(data: &Path, router: Router) -> Result<Option<ControlServer>> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(data)
        .map_err(|e| Error::config(format!("cannot make {}", data.display())).with_source(e))?;
    let path = data.join(SOCKET);
    if UnixStream::connect(&path).await.is_ok() {
        return Ok(None);
    }
    // Left by a process that was killed.
    let _ = std::fs::remove_file(&path);
    let failed = |e: std::io::Error| {
        Error::config(format!("cannot make the control socket {}", path.display()))
            .with_source(e)
            .next("the path of a socket has at most 107 bytes: use a shorter --data")
    };
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let router = super::to_the_end(router);
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let ended = async move {
            // A sender that is gone means the same as one that says so.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(ended).await {
            tracing::warn!(%error, "the control socket ended");
        }
    });
    Ok(Some(ControlServer { path, stop, task }))
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; an error's body as the error that it tells.
    ///
    /// # Errors
    /// What the other process answered, or that it is not JSON.
    pub fn json(&self) -> Result<Value> {
        let value: Value = serde_json::from_slice(&self.body).map_err(|e| {
            Error::internal("the running process gave an answer that is not JSON").with_source(e)
        })?;
        if (200..300).contains(&self.status) {
            return Ok(value);
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = if self.status < 500 { Kind::Config } else { Kind::Internal };
        let what =
            text("what").or_else(|| text("message")).unwrap_or_else(|| format!("status {}", self.status));
        let mut error = Error::new(kind, what);
        if let Some(cause) = text("cause") {
            error = error.because(cause);
        }
        if let Some(next) = text("next") {
            error = error.next(next);
        }
        Err(error)
    }
}

/// Asks the process that serves a data directory; `Ok(None)` where none does.
///
/// # Errors
/// Where the connection breaks or the answer is no HTTP.
pub async fn request(data: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Option<Answer>> {
    let Ok(mut stream) = UnixStream::connect(data.join(SOCKET)).await else { return Ok(None) };
    let broken = |e: std::io::Error| Error::transient("the running process does not answer").with_source(e);
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(broken)?;
    let mut bytes = Vec::new();
    // A replay may compute for a long time; a process that hangs is to be seen all the same.
    match tokio::time::timeout(Duration::from_secs(24 * 3600), stream.read_to_end(&mut bytes)).await {
        Ok(read) => drop(read.map_err(broken)?),
        Err(_) => return Err(Error::transient("the running process did not answer in a day")),
    }
    parse(&bytes)
        .map(Some)
        .ok_or_else(|| Error::internal("the running process gave an answer that is no HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let mut body = bytes.get(end + 4..)?.to_vec();
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        let mut rest = body.as_slice();
        let mut joined = Vec::new();
        loop {
            let line = memchr::memmem::find(rest, b"\r\n")?;
            let size = std::str::from_utf8(rest.get(..line)?).ok()?;
            let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                break;
            }
            joined.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
            rest = rest.get(line + 4 + size..)?;
        }
        body = joined;
    }
    Some(Answer { status, body })
}

/// A name as a segment of a path.
pub fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_live_process_answers_and_a_dead_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert!(request(dir.path(), "GET", "/pipelines", None).await.unwrap().is_none());
        std::fs::write(dir.path().join(SOCKET), b"left behind").unwrap();
        let server = serve(dir.path(), router()).await.unwrap().unwrap();
        assert!(serve(dir.path(), router()).await.unwrap().is_none());
        let answer = request(dir.path(), "GET", "/pipelines", None).await.unwrap().unwrap();
        assert!(answer.json().unwrap().is_array());
        let answer = request(dir.path(), "GET", "/pipelines/no%20such", None).await.unwrap().unwrap();
        assert_eq!(answer.status, 404);
        assert!(answer.json().unwrap_err().what().contains("no such"));
        drop(server);
        assert!(!dir.path().join(SOCKET).exists());
    }
}
