//! Collects the bytes of a connection into frames: a length, and that many bytes.
//!
//! A frame that is longer than wanted is skipped: its bytes are dropped as they arrive, and only its head is kept.

use super::Failure;
use super::transport::{CHUNK, Transport, is_timeout};
use std::io::{self, ErrorKind};
use std::time::Instant;

const LENGTH: usize = 4;
/// Bytes that are kept of a frame that is skipped: the head of a reply.
const HEAD: usize = 16;
/// Bytes of a skipped frame that have to arrive in the time of one reply.
const PROGRESS: usize = 1 << 20;

/// The bytes that were received and not taken yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    taken: usize,
    skipped: Option<Skipped>,
    head: [u8; HEAD],
    /// When the first byte of an incomplete frame arrived. If the frame is skipped, when it last made progress.
    pub(super) begun: Option<Instant>,
}

/// A frame that is being skipped.
#[derive(Debug)]
struct Skipped {
    length: usize,
    left: usize,
    since_progress: usize,
}

/// A frame, without its length.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Whole(&'a [u8]),
    /// The head of a frame that was skipped, and the bytes of the whole frame.
    Head(&'a [u8], usize),
}

/// The longest frame that is kept whole, and what happens to a longer one.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    /// Set if a longer frame is skipped. Otherwise it is an error.
    pub(super) skips: bool,
}

impl Frames {
    /// Waits for more bytes, at most until a moment. It is no error if none arrive. The buffer never becomes larger
    /// than the announced frame, a chunk, and the waste of growing: a length alone allocates nothing.
    pub(super) fn fill(&mut self, transport: &Transport, until: Instant) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(CHUNK);
        }
        let timeout = until.saturating_duration_since(Instant::now());
        match transport.receive(&mut self.buffer, timeout) {
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => Ok(()),
            received => received,
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next frame, if all of it has arrived.
    pub(super) fn next(&mut self, limit: Limit) -> Result<Option<Frame<'_>>, Failure> {
        if self.skipped.is_none() {
            let rest = &self.buffer[self.taken..];
            let has_begun = !rest.is_empty();
            match first(rest, limit)? {
                Some(First::Whole(length)) => {
                    let begin = self.taken + LENGTH;
                    self.taken = begin + length;
                    self.begun = None;
                    return Ok(Some(Frame::Whole(&self.buffer[begin..self.taken])));
                }
                Some(First::TooLong(head, length)) => {
                    self.head = head;
                    self.taken += LENGTH + HEAD;
                    self.skipped = Some(Skipped {
                        length,
                        left: length - HEAD,
                        since_progress: 0,
                    });
                }
                None => {
                    self.begun = has_begun.then(|| self.begun.unwrap_or_else(Instant::now));
                    return Ok(None);
                }
            }
        }
        let skipped = self.skip();
        Ok(skipped.map(|length| Frame::Head(&self.head, length)))
    }

    /// Drops bytes of the frame that is being skipped. Returns its length at its end.
    fn skip(&mut self) -> Option<usize> {
        let skipped = self.skipped.as_mut()?;
        let dropped = skipped.left.min(self.buffer.len() - self.taken);
        self.taken += dropped;
        skipped.left -= dropped;
        skipped.since_progress += dropped;
        if skipped.since_progress >= PROGRESS || self.begun.is_none() {
            skipped.since_progress = 0;
            self.begun = Some(Instant::now());
        }
        let length = (skipped.left == 0).then_some(skipped.length)?;
        (self.skipped, self.begun) = (None, None);
        Some(length)
    }
}

/// The beginning of a frame.
enum First {
    /// A whole frame, with this many bytes after the length.
    Whole(usize),
    /// The head of a frame that is too long, and its length.
    TooLong([u8; HEAD], usize),
}

/// Returns the beginning of the first frame, if enough of it has arrived.
fn first(bytes: &[u8], limit: Limit) -> Result<Option<First>, Failure> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    match length {
        0 => Err(Failure::garbled()),
        _ if length <= limit.bytes => Ok((length <= rest.len()).then_some(First::Whole(length))),
        HEAD.. if limit.skips => {
            let head = rest.first_chunk().copied();
            Ok(head.map(|head| First::TooLong(head, length)))
        }
        _ => Err(Failure::garbled()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    const LIMIT: Limit = Limit {
        bytes: 8 << 20,
        skips: false,
    };

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn connected() -> (TcpStream, Transport) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            listener.accept().unwrap().0,
            Transport::new(client).unwrap(),
        )
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    /// Waits for the next frame.
    fn next(frames: &mut Frames, transport: &Transport) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(Frame::Whole(frame)) = frames.next(LIMIT)? {
                return Ok(frame.to_vec());
            }
            frames.fill(transport, soon())?;
        }
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let stream: Vec<u8> = (1..=50).flat_map(|n| frame(&vec![n; n as usize])).collect();
        for size in [1, 3, 19, 64, 100_000] {
            let ((mut server, transport), mut frames) = (connected(), Frames::default());
            let stream = stream.clone();
            let sending = thread::spawn(move || {
                for piece in stream.chunks(size) {
                    server.write_all(piece).unwrap();
                }
            });
            for n in 1..=50 {
                let found = next(&mut frames, &transport).unwrap();
                assert_eq!(found, vec![n; n as usize], "{size}");
            }
            assert_eq!(frames.begun, None);
            sending.join().unwrap();
            assert!(
                next(&mut frames, &transport).is_err(),
                "the end of the stream"
            );
        }
    }

    #[test]
    fn a_large_frame_is_read_whole_and_its_room_given_back() {
        let ((mut server, transport), mut frames) = (connected(), Frames::default());
        let sending = thread::spawn(move || {
            server.write_all(&frame(&vec![1; 6 << 20])).unwrap();
            server.write_all(&frame(&[2])).unwrap();
            server
        });
        assert_eq!(next(&mut frames, &transport).unwrap().len(), 6 << 20);
        assert_eq!(next(&mut frames, &transport).unwrap(), [2]);
        let mut server = sending.join().unwrap();
        server.write_all(&frame(&[3])).unwrap();
        assert_eq!(next(&mut frames, &transport).unwrap(), [3]);
        assert!(frames.buffer.capacity() <= 2 * CHUNK);
    }

    #[test]
    fn a_length_alone_takes_no_memory_and_one_that_is_wrong_is_an_error() {
        for (length, wrong) in [
            (LIMIT.bytes as i32, false),
            (-1, true),
            (0, true),
            (i32::MAX, true),
        ] {
            let ((mut server, transport), mut frames) = (connected(), Frames::default());
            server.write_all(&length.to_be_bytes()).unwrap();
            frames.fill(&transport, soon()).unwrap();
            assert_eq!(frames.next(LIMIT).is_err(), wrong, "{length}");
            assert!(frames.buffer.capacity() <= 2 * CHUNK);
            assert_eq!(frames.begun.is_some(), !wrong);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_skipped_without_memory_for_it() {
        const LONG: usize = 12 << 20;
        let limit = Limit {
            bytes: 64,
            skips: true,
        };
        let ((mut server, transport), mut frames) = (connected(), Frames::default());
        let sending = thread::spawn(move || {
            for _ in 0..2 {
                server.write_all(&frame(&[1])).unwrap();
                server.write_all(&frame(&vec![7; LONG])).unwrap();
            }
            server
        });
        let mut found = Vec::new();
        while found.len() < 4 {
            match frames.next(limit).unwrap() {
                Some(Frame::Whole(frame)) => found.push((frame.to_vec(), frame.len())),
                Some(Frame::Head(head, length)) => found.push((head.to_vec(), length)),
                None => frames.fill(&transport, soon()).unwrap(),
            }
            assert!(frames.buffer.capacity() <= 2 * CHUNK);
        }
        assert_eq!(found[..2], [(vec![1], 1), (vec![7; HEAD], LONG)]);
        assert_eq!(found[..2], found[2..]);
        assert_eq!(frames.begun, None);
        let _server = sending.join().unwrap();
    }

    #[test]
    fn a_frame_that_is_skipped_has_begun_when_it_last_made_progress() {
        let limit = Limit {
            bytes: 64,
            skips: true,
        };
        let mut frames = Frames::default();
        let announced = ((4 * PROGRESS) as u32).to_be_bytes();
        frames.put(&[&announced[..], &[0; HEAD]].concat());
        assert_eq!(frames.next(limit), Ok(None));
        let begun = frames.begun.unwrap();
        frames.put(&[0; PROGRESS / 2]);
        assert_eq!(frames.next(limit), Ok(None));
        assert_eq!(frames.begun, Some(begun), "too little");
        frames.put(&[0; PROGRESS / 2]);
        assert_eq!(frames.next(limit), Ok(None));
        assert!(frames.begun > Some(begun));
    }
}
