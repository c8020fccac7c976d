//! A TCP proxy that misbehaves on request.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it does with connections and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Every piece is held up for so long.
    Delay(Duration),
    /// Connections are closed, new ones too.
    Drop,
    /// Connections are reset (RST), new ones too.
    Reset,
    /// Connections stay open, and nothing passes any more: not on old ones, ever, and not on new ones.
    HalfOpen,
}

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on `port` of 127.0.0.1 (0: any) and passes on to `upstream` there.
    pub async fn start(port: u16, upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, watch) = watch::channel(Mode::Pass);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, upstream, watch.clone()));
            }
        });
        Self { port, mode, task }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

#[allow(deprecated, reason = "a reset is what lingering for no time gives")]
fn reset(stream: &TcpStream) {
    let _ = stream.set_linger(Some(Duration::ZERO));
}

async fn connection(mut client: TcpStream, upstream: u16, mut mode: watch::Receiver<Mode>) {
    let now = *mode.borrow_and_update();
    match now {
        Mode::Drop => return,
        Mode::Reset => return reset(&client),
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], upstream))).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut up, mut down) = (vec![0u8; 64 << 10], vec![0u8; 64 << 10]);
    let mut dead = now == Mode::HalfOpen;
    loop {
        if dead {
            // Kept open without a word until nobody cares any more.
            tokio::time::sleep(Duration::from_secs(300)).await;
            return;
        }
        let delay = async |mode: &watch::Receiver<Mode>| {
            let held = match *mode.borrow() {
                Mode::Delay(held) => held,
                _ => Duration::ZERO,
            };
            tokio::time::sleep(held).await;
        };
        tokio::select! {
            biased;
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *mode.borrow_and_update();
                match now {
                    Mode::Drop => return,
                    Mode::Reset => {
                        reset(&client);
                        reset(&server);
                        return;
                    }
                    Mode::HalfOpen => dead = true,
                    Mode::Pass | Mode::Delay(_) => {}
                }
            }
            read = client.read(&mut up) => match read {
                Ok(n) if n > 0 => {
                    delay(&mode).await;
                    if server.write_all(&up[..n]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(n) if n > 0 => {
                    delay(&mode).await;
                    if client.write_all(&down[..n]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
