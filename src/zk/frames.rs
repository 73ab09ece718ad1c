//! The little of ZooKeeper's protocol that the relay looks at: frames, their headers, and the handshake.
//!
//! A frame is a length and that many bytes. A request begins with its xid and operation, a reply with its xid, the last
//! transaction the server has seen (zxid) and an error. All numbers are big-endian.

use super::dialer::Until;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const AUTH: i32 = 100;
const ADD_WATCH: i32 = 106;
pub(super) const PING: i32 = 11;
pub(super) const CLOSE: i32 = -11;
/// The xid of a watch event, which answers no request.
pub(super) const EVENT_XID: i32 = -1;
pub(super) const PING_XID: i32 = -2;
/// The error of a request whose connection was lost before it was answered.
pub(super) const CONNECTION_LOSS: i32 = -4;

const LENGTH: usize = 4;
/// So many session timeouts pass for our client where one does.
const CLIENT_TAKES_ITS_TIME: u32 = 10;
/// Far more than a server sends. A longer one is not ZooKeeper's.
const MOST: usize = 128 << 20;
const CHUNK: usize = 64 << 10;

/// Collects the bytes of a stream into frames.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
}

impl Frames {
    /// Reads until there is at least one frame, and returns all whole ones. The end of the stream is an error; after
    /// one that is passing, reading can go on.
    pub(super) fn read(&mut self, stream: &mut impl Read) -> io::Result<&[u8]> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= std::mem::take(&mut self.taken);
        self.buffer.truncate(self.filled.max(CHUNK));
        self.buffer.shrink_to(4 * CHUNK);
        loop {
            let (whole, wanted) = whole(&self.buffer[..self.filled])?;
            if whole > 0 {
                self.taken = whole;
                return Ok(&self.buffer[..whole]);
            }
            let room = wanted.max(self.filled + CHUNK / 2);
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            match stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many of the bytes are whole frames, and how many there have to be for one more.
fn whole(bytes: &[u8]) -> io::Result<(usize, usize)> {
    let mut at = 0;
    loop {
        let Some(length) = bytes[at..].first_chunk::<LENGTH>() else {
            return Ok((at, at + LENGTH));
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .ok()
            .filter(|length| *length <= MOST)
            .ok_or(ErrorKind::InvalidData)?;
        if bytes.len() - at - LENGTH < length {
            return Ok((at, at + LENGTH + length));
        }
        at += LENGTH + length;
    }
}

/// One frame, its length included.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a>(pub(super) &'a [u8]);

/// Splits whole frames from each other.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let length = i32::from_be_bytes(*bytes.first_chunk()?);
        let (frame, rest) = bytes.split_at_checked(LENGTH + usize::try_from(length).ok()?)?;
        bytes = rest;
        Some(Frame(frame))
    })
}

impl<'a> Frame<'a> {
    pub(super) fn xid(self) -> i32 {
        self.int(0)
    }

    pub(super) fn operation(self) -> i32 {
        self.int(4)
    }

    pub(super) fn zxid(self) -> i64 {
        i64::from(self.int(4)) << 32 | i64::from(self.int(8) as u32)
    }

    pub(super) fn error(self) -> i32 {
        self.int(12)
    }

    /// What a reply says beside its head.
    pub(super) fn body(self) -> &'a [u8] {
        self.0.get(LENGTH + 16..).unwrap_or_default()
    }

    /// A number at an offset behind the length, 0 where the frame is too short for it.
    fn int(self, at: usize) -> i32 {
        let bytes = self.0.get(LENGTH + at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| i32::from_be_bytes(*bytes))
    }
}

/// Whether what was asked for lasts as long as the connection: credentials and watches.
pub(super) fn lasts(operation: i32) -> bool {
    matches!(operation, AUTH | ADD_WATCH)
}

/// A request that does not come from the client.
pub(super) fn request(xid: i32, operation: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&xid.to_be_bytes(), &operation.to_be_bytes(), body])
}

/// The reply to a request that there is no connection for any more.
pub(super) fn loss(xid: i32) -> Vec<u8> {
    let zxid = 0_i64.to_be_bytes();
    framed(&[&xid.to_be_bytes(), &zxid, &CONNECTION_LOSS.to_be_bytes()])
}

fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let parts = parts.concat();
    [&(parts.len() as u32).to_be_bytes(), &*parts].concat()
}

/// What a server said to a client that introduced itself.
pub(super) enum Greeting {
    Granted(Granted),
    /// The session is not known any more.
    Expired,
}

/// A session as the ensemble knows it.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) id: i64,
    pub(super) timeout: Duration,
    password: Vec<u8>,
    /// The server's answer as it came.
    frame: Vec<u8>,
}

impl Granted {
    /// What asks for a new session.
    pub(super) fn none(timeout: Duration) -> Granted {
        let (password, frame) = (vec![0; 16], Vec::new());
        Granted {
            id: 0,
            timeout,
            password,
            frame,
        }
    }

    /// Introduces a client to a server: one that has this session, and has seen everything up to `zxid`.
    ///
    /// A server that has not seen as much ends the connection without an answer.
    pub(super) fn greet(
        &self,
        stream: &mut TcpStream,
        zxid: i64,
        within: Duration,
    ) -> io::Result<Greeting> {
        stream.write_all(&self.request(zxid))?;
        let mut frames = Frames::default();
        let deadline = Instant::now() + within;
        let answer = frames.read(&mut Until { stream, deadline })?;
        Granted::read(answer).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// What to answer a client that has the session through us: it may take its time, for the signs of life are ours
    /// to give. Its own would be put off by every event.
    pub(super) fn answer(&self) -> Vec<u8> {
        let timeout = millis(self.timeout.saturating_mul(CLIENT_TAKES_ITS_TIME));
        let mut frame = self.frame.clone();
        frame[LENGTH + 4..LENGTH + 8].copy_from_slice(&timeout);
        frame
    }

    fn request(&self, zxid: i64) -> Vec<u8> {
        let version = 0_i32.to_be_bytes();
        let length = (self.password.len() as u32).to_be_bytes();
        let read_only = [0];
        framed(&[
            &version,
            &zxid.to_be_bytes(),
            &millis(self.timeout),
            &self.id.to_be_bytes(),
            &length,
            &self.password,
            &read_only,
        ])
    }

    fn read(bytes: &[u8]) -> Option<Greeting> {
        let frame = split(bytes).next()?;
        let timeout = u64::try_from(frame.int(4))
            .ok()
            .filter(|_| frame.0.len() > 20)?;
        if timeout == 0 {
            return Some(Greeting::Expired);
        }
        let id = i64::from(frame.int(8)) << 32 | i64::from(frame.int(12) as u32);
        let length = usize::try_from(frame.int(16)).ok()?;
        let password = frame.0.get(LENGTH + 20..)?.get(..length)?;
        Some(Greeting::Granted(Granted {
            id,
            timeout: Duration::from_millis(timeout),
            password: password.to_vec(),
            frame: frame.0.to_vec(),
        }))
    }
}

fn millis(time: Duration) -> [u8; 4] {
    let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    millis.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that comes in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(into.len());
            (&mut self.0).take(size as u64).read(into)
        }
    }

    fn xids(bytes: &[u8]) -> Vec<i32> {
        split(bytes).map(Frame::xid).collect()
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let stream: Vec<u8> = (1..=50).flat_map(loss).collect();
        for size in [1, 3, 19, 20, 21, 64, 100_000] {
            let (mut frames, mut pieces) = (Frames::default(), Pieces(&stream, size));
            let mut found = Vec::new();
            while let Ok(whole) = frames.read(&mut pieces) {
                found.extend(xids(whole));
            }
            assert_eq!(found, (1..=50).collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn a_large_frame_is_read_whole_and_its_room_given_back() {
        let large = framed(&[&7_i32.to_be_bytes(), &vec![1; 6 << 20]]);
        let mut frames = Frames::default();
        assert!(frames.read(&mut Pieces(&large, 50_000)).unwrap() == large);
        assert_eq!(xids(frames.read(&mut &loss(8)[..]).unwrap()), [8]);
        assert!(frames.read(&mut &[][..]).is_err(), "the end of the stream");
        assert!(frames.buffer.capacity() <= 8 * CHUNK);
    }

    #[test]
    fn a_length_that_no_server_sends_is_an_error() {
        for length in [-1, i32::MIN, i32::MAX] {
            let bytes = length.to_be_bytes();
            let error = Frames::default().read(&mut &bytes[..]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_short_frame_has_zeros_for_what_is_missing() {
        let empty = [0, 0, 0, 0, 0, 0, 0, 1, 9];
        let frames: Vec<_> = split(&empty).collect();
        assert_eq!(frames.len(), 2);
        assert!(
            frames
                .iter()
                .all(|frame| (frame.xid(), frame.error()) == (0, 0))
        );
    }

    #[test]
    fn a_greeting_is_answered_with_a_session_or_its_end() {
        let session = Granted {
            id: -2,
            timeout: Duration::from_millis(1500),
            password: vec![9; 16],
            frame: Vec::new(),
        };
        let id = session.id.to_be_bytes();
        let answer = |timeout: i32| {
            let length = 16_i32.to_be_bytes();
            framed(&[&[0; 4], &timeout.to_be_bytes(), &id, &length, &[9; 16]])
        };
        let Some(Greeting::Granted(granted)) = Granted::read(&answer(1500)) else {
            panic!("not granted");
        };
        assert_eq!(granted.answer(), answer(15_000));
        assert_eq!(granted.request(5), session.request(5));
        assert!(matches!(Granted::read(&answer(0)), Some(Greeting::Expired)));
        assert!(Granted::read(&answer(-1)).is_none());
        assert!(Granted::read(&answer(1500)[..30]).is_none());
        assert!(Granted::read(&framed(&[&[0; 10]])).is_none());
    }
}
