//! One connection through the proxy: a thread for each direction, and one that reads ahead what the server sends.

use super::{Fate, Mode, Network};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

const CONNECT: Duration = Duration::from_secs(1);
/// How soon a thread that cannot deliver sees that the flow was reset.
const TICK: Duration = Duration::from_millis(100);
/// So many answers may be on their way before no more is read from the server.
const AHEAD: usize = 1024;
/// The xid of a reply that is a watch event. The first reply, to the handshake, has a zero in its place.
const EVENT: [u8; 4] = [0xff; 4];

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

use Direction::{Down, Up};

/// What was read from one end.
enum Chunk {
    Bytes(Vec<u8>),
    /// It sends no more.
    End,
    /// It was reset.
    Broken,
}

/// When it was read, and what.
type Arrival = (Instant, Chunk);

#[derive(Debug)]
pub(super) struct Flow {
    network: Arc<Network>,
    client: TcpStream,
    /// Set with the first delivery.
    server: OnceLock<TcpStream>,
    /// Whether what the server sends is ZooKeeper's frames.
    framed: AtomicBool,
    /// Whether the server has been heard.
    answered: AtomicBool,
    lost_up: AtomicBool,
    lost_down: AtomicBool,
    over: AtomicBool,
}

impl Flow {
    pub(super) fn new(network: Arc<Network>, client: TcpStream) -> Flow {
        Flow {
            network,
            client,
            server: OnceLock::new(),
            framed: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            lost_up: AtomicBool::new(false),
            lost_down: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends both threads; the sockets are reset when these let go of them.
    pub(super) fn reset(&self) {
        self.network
            .change(|_| self.over.store(true, Ordering::Relaxed));
        for stream in self.streams() {
            reset_on_close(stream);
            // Wakes who reads from it, and sends nothing.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Says what is to become of bytes, of which there are none where an end is told.
    pub(super) fn fate(&self, mode: Mode, direction: Direction, bytes: &[u8]) -> Fate {
        if !self.carries(mode, direction) {
            Fate::Lost
        } else if mode == Mode::DropEvents && self.is_event(direction, bytes) {
            Fate::Skipped
        } else {
            Fate::Delivered
        }
    }

    /// Returns by how much the mode delays what is delivered next.
    pub(super) fn delay(&self, mode: Mode, direction: Direction) -> Duration {
        match mode {
            Mode::Delay(time) if direction == Down => time,
            Mode::DelayGrant(time) if direction == Down && self.is_grant() => time,
            _ => Duration::ZERO,
        }
    }

    fn is_grant(&self) -> bool {
        self.framed.load(Ordering::Relaxed) && !self.answered.load(Ordering::Relaxed)
    }

    /// A flow that lost something in one direction carries the other one only for as long as the mode is about that.
    fn carries(&self, mode: Mode, direction: Direction) -> bool {
        let intact = |direction| !self.lost(direction).load(Ordering::Relaxed);
        match mode {
            Mode::Swallow => false,
            Mode::SwallowUp => direction == Down && intact(Down),
            Mode::SwallowDown => direction == Up && intact(Up),
            _ => intact(Up) && intact(Down),
        }
    }

    fn is_event(&self, direction: Direction, frame: &[u8]) -> bool {
        let framed = direction == Down && self.framed.load(Ordering::Relaxed);
        framed && frame.get(4..8) == Some(&EVENT)
    }

    pub(super) fn run(&self) {
        let _ = self.client.set_nodelay(true);
        let _ = self.client.set_write_timeout(Some(TICK));
        thread::scope(|scope| {
            let mut arrivals = std::iter::from_fn(|| Some(self.arrival(Up)));
            while let Some(chunk) = self.next(Up, &mut arrivals) {
                if !self.connected(scope, &chunk) || !self.deliver(Up, chunk) {
                    return;
                }
            }
        });
    }

    fn down(&self) {
        thread::scope(|scope| {
            // Ends with this closure, which the thread that reads ahead takes as the end.
            let (ahead, arrivals) = sync_channel(AHEAD);
            scope.spawn(move || self.read_ahead(&ahead));
            let mut arrivals = arrivals.into_iter();
            while let Some(chunk) = self.next(Down, &mut arrivals) {
                self.answered.store(true, Ordering::Relaxed);
                if !self.deliver(Down, chunk) {
                    return;
                }
            }
        });
    }

    /// Notes when each answer came, however long the one before it is kept back.
    fn read_ahead(&self, ahead: &SyncSender<Arrival>) {
        loop {
            let arrival = self.arrival(Down);
            let last = arrival.1.bytes().is_empty();
            if ahead.send(arrival).is_err() || last {
                return;
            }
        }
    }

    fn arrival(&self, direction: Direction) -> Arrival {
        let chunk = self.read(direction);
        (Instant::now(), chunk)
    }

    /// Connects to the target for the first bytes that are to go there, and starts the other direction.
    fn connected<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, chunk: &Chunk) -> bool {
        if self.server.get().is_some() {
            return true;
        }
        let Chunk::Bytes(bytes) = chunk else {
            return false;
        };
        // A four-letter word has a letter here, and its answer no frames.
        self.framed.store(bytes[0] == 0, Ordering::Relaxed);
        let Ok(server) = self.connect() else {
            self.reset();
            return false;
        };
        // Under the same lock as the reset, which would miss it otherwise: either that sees it, or we see that.
        self.network.change(|_| drop(self.server.set(server)));
        if self.is_over() {
            self.reset();
            return false;
        }
        let thread = thread::Builder::new().name("testing-flow".into());
        thread.spawn_scoped(scope, || self.down()).is_ok()
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let target = self.network.state().target.clone();
        let unknown = || io::Error::from(ErrorKind::NotFound);
        let resolved = target.to_socket_addrs()?.next().ok_or_else(unknown)?;
        let server = TcpStream::connect_timeout(&resolved, CONNECT)?;
        server.set_nodelay(true)?;
        server.set_write_timeout(Some(TICK))?;
        Ok(server)
    }

    /// Returns what is to be delivered next, `None` where there is nothing more.
    fn next(
        &self,
        direction: Direction,
        arrivals: &mut impl Iterator<Item = Arrival>,
    ) -> Option<Chunk> {
        loop {
            let (came, chunk) = arrivals.next()?;
            let bytes = chunk.bytes();
            match self.network.fate(self, direction, came, bytes) {
                Fate::Delivered => return Some(chunk),
                Fate::Over => return None,
                Fate::Skipped => {}
                Fate::Lost => {
                    self.lost(direction).store(true, Ordering::Relaxed);
                    if bytes.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    fn read(&self, direction: Direction) -> Chunk {
        let framed = direction == Down && self.framed.load(Ordering::Relaxed);
        let stream = self.stream(direction);
        let read = if framed { read_frame } else { read_some };
        match read(stream) {
            Ok(bytes) if bytes.is_empty() => Chunk::End,
            Ok(bytes) => Chunk::Bytes(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Chunk::End,
            Err(_) => Chunk::Broken,
        }
    }

    /// Passes on what was read, and says whether there may be more.
    fn deliver(&self, direction: Direction, chunk: Chunk) -> bool {
        let to = self.stream(direction.opposite());
        match chunk {
            Chunk::Bytes(bytes) if self.write(to, &bytes).is_ok() => return true,
            Chunk::End => drop(to.shutdown(Shutdown::Write)),
            Chunk::Bytes(_) | Chunk::Broken => self.reset(),
        }
        false
    }

    fn write(&self, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.is_over() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns where what goes this way comes from.
    fn stream(&self, direction: Direction) -> &TcpStream {
        match direction {
            Up => &self.client,
            Down => self.server.get().expect("a flow that is connected"),
        }
    }

    fn streams(&self) -> impl Iterator<Item = &TcpStream> {
        std::iter::once(&self.client).chain(self.server.get())
    }

    fn lost(&self, direction: Direction) -> &AtomicBool {
        match direction {
            Up => &self.lost_up,
            Down => &self.lost_down,
        }
    }
}

impl Direction {
    fn opposite(self) -> Direction {
        match self {
            Up => Down,
            Down => Up,
        }
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Bytes(bytes) => bytes,
            Chunk::End | Chunk::Broken => &[],
        }
    }
}

fn read_some(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 16 * 1024];
    let read = stream.read(&mut buffer)?;
    buffer.truncate(read);
    Ok(buffer)
}

fn read_frame(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Has a socket send a reset when it is closed, instead of an end.
pub(super) fn reset_on_close(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
