//! HTTP/1.1 by hand, for requests that no client library sends: incomplete or slow ones.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::process::DEADLINE;

/// One connection.
pub struct RawHttp {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawHttp {
    pub async fn connect(to: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(to).await.unwrap(), received: Vec::new() }
    }

    /// From an address of this machine. On Linux, all of 127.0.0.0/8 are its addresses.
    pub async fn connect_from(from: [u8; 4], to: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self { stream: socket.connect(to).await?, received: Vec::new() })
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes, even if the other side no longer reads.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// The next answer: its status and its whole text.
    pub async fn answer(&mut self) -> (u16, String) {
        tokio::time::timeout(DEADLINE, self.try_answer())
            .await
            .expect("an answer in time")
            .expect("an answer before the connection ends")
    }

    /// `None` when the connection ends without an answer.
    pub async fn try_answer(&mut self) -> Option<(u16, String)> {
        loop {
            if let Some(length) = complete(&self.received) {
                let answer: Vec<u8> = self.received.drain(..length).collect();
                let text = String::from_utf8_lossy(&answer).into_owned();
                return Some((text.get(9..12)?.parse().unwrap(), text));
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Whether the connection is open and nothing has come for a while.
    pub async fn is_silent(&mut self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        tokio::time::timeout(Duration::from_millis(300), peeked).await.is_err()
            && self.received.is_empty()
    }

    /// Waits for the end of the connection. Returns whether it ended in order, rather than by a
    /// reset.
    pub async fn ends_in_order(&mut self) -> bool {
        let end = self.stream.read_to_end(&mut self.received);
        tokio::time::timeout(DEADLINE, end).await.expect("an end in time").is_ok()
    }
}

/// The length of the first answer, once it is complete.
fn complete(received: &[u8]) -> Option<usize> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = head + length.map_or(0, |length| length.parse().unwrap());
    (received.len() >= length).then_some(length)
}
