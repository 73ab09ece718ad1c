//! The bytes of one connection. One thread reads them, and any number of threads write.
//!
//! The reader holds no lock while it blocks. Writers put their bytes into a buffer under a lock. The first of them
//! becomes the sender: it releases the lock, and writes to the socket until the buffer is empty. The others return at
//! once. This keeps the order, no thread waits for the socket with the lock held, and many small requests become one
//! write. Encryption belongs here: bytes would be encrypted when they are put, and decrypted when they are received.

use parking_lot::{Mutex, MutexGuard};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A sender checks its deadline this often.
pub(super) const WRITE_FOR: Duration = Duration::from_millis(100);
/// The read size, and the capacity that a larger buffer is shrunk to.
pub(super) const CHUNK: usize = 16 << 10;

/// One connection to a server.
pub(super) struct Transport {
    stream: TcpStream,
    out: Mutex<Out>,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Set while a thread is writing.
    sending: bool,
}

impl Transport {
    pub(super) fn new(stream: TcpStream) -> io::Result<Transport> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_FOR))?;
        let out = Mutex::default();
        Ok(Transport { stream, out })
    }

    /// Returns the address of this machine, and the address and port of the server.
    pub(super) fn ends(&self) -> (Option<IpAddr>, String) {
        let own = self.stream.local_addr().ok().map(|address| address.ip());
        let server = self.stream.peer_addr();
        let server = server.map_or_else(|error| error.to_string(), |server| server.to_string());
        (own, server)
    }

    /// Ends the connection. Readers and writers notice it at once.
    pub(super) fn shut_down(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Appends bytes to the buffer.
    pub(super) fn put(&self, bytes: &[u8]) {
        self.out.lock().bytes.extend_from_slice(bytes);
    }

    /// Sends the bytes that were put, unless another thread sends them. Returns false if the network did not take all of
    /// them by `deadline`: the rest is sent by the next call. A failure ends the connection, which the reader notices.
    pub(super) fn flush(&self, deadline: Instant) -> bool {
        let mut out = self.out.lock();
        if std::mem::replace(&mut out.sending, true) {
            return true;
        }
        while !out.bytes.is_empty() {
            let mut batch = std::mem::take(&mut out.bytes);
            let written = MutexGuard::unlocked(&mut out, || self.write(&batch, deadline));
            batch.drain(..written.min(batch.len()));
            let left = batch.len();
            batch.append(&mut out.bytes);
            batch.shrink_to(CHUNK);
            out.bytes = batch;
            if left > 0 {
                break;
            }
        }
        out.sending = false;
        out.bytes.is_empty()
    }

    /// Returns how many bytes were written by the deadline.
    fn write(&self, bytes: &[u8], deadline: Instant) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match (&self.stream).write(&bytes[written..]) {
                Ok(more) if more > 0 => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && Instant::now() < deadline => {}
                Err(error) if is_timeout(&error) => break,
                _ => {
                    self.shut_down();
                    return bytes.len();
                }
            }
        }
        written
    }

    /// Waits for bytes from the server, at most for this time, and appends them. The end of the stream is an error.
    pub(super) fn receive(&self, into: &mut Vec<u8>, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(timeout))?;
        let mut chunk = [0; CHUNK];
        match (&self.stream).read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                into.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}

/// Returns whether a timeout has passed. An interrupted call is no timeout.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
