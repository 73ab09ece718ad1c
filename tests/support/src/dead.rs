//! Addresses where no ZooKeeper answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Returns an address where nothing listens.
pub fn refused() -> String {
    format!("127.0.0.1:{}", crate::free_port())
}

/// A port that accepts connections, by way of the kernel's backlog, and never answers.
#[derive(Debug)]
pub struct Silent(TcpListener);

impl Silent {
    /// Opens the port, on loopback.
    #[expect(
        clippy::new_without_default,
        reason = "a port is opened, which no default should do"
    )]
    pub fn new() -> Silent {
        Silent(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Returns where it listens.
    pub fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }
}

/// How long a client may take to say what it wants.
const HEAR: Duration = Duration::from_secs(2);

/// A port that says that it serves, and ends every connection on which a session is asked for. Dropping it frees the
/// port.
#[derive(Debug)]
pub struct Ending {
    address: SocketAddr,
    heard: Arc<Heard>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Heard {
    greetings: Mutex<Vec<(Instant, i64)>>,
    over: AtomicBool,
}

impl Ending {
    /// Opens this address, such as `127.0.0.1:2181`.
    pub fn at(address: &str) -> Ending {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Heard::default());
        let hearing = heard.clone();
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if hearing.over.load(Ordering::Relaxed) {
                    return;
                }
                let hearing = hearing.clone();
                thread::spawn(move || hearing.hear(stream));
            }
        });
        Ending {
            address,
            heard,
            acceptor: Some(acceptor),
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns when sessions were asked for, and which: 0 for a new one.
    pub fn greetings(&self) -> Vec<(Instant, i64)> {
        self.heard.greetings.lock().unwrap().clone()
    }
}

impl Heard {
    /// Hears a client out, whatever he wants, and ends the connection.
    fn hear(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_read_timeout(Some(HEAR)).ok()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).ok()?;
        if word == *b"srvr" {
            return stream.write_all(b"Mode: standalone\n").ok();
        }
        let mut greeting = vec![0; u32::from_be_bytes(word).min(1000) as usize];
        stream.read_exact(&mut greeting).ok()?;
        // Behind the version of the protocol, the last transaction seen and the timeout.
        let session = greeting.get(16..24)?.try_into().ok()?;
        let greeting = (Instant::now(), i64::from_be_bytes(session));
        self.greetings.lock().unwrap().push(greeting);
        Some(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.heard.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}
